//! Law 7: after a rejection, a panic or a store failure the state is byte for byte what it was, nobody
//! hears anything, and the next event works.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{
    Access, Context, Elements, Error, Event, Handle, MemoryStore, PrepareContext, ReactiveState, Registry,
    Rejection, StateConfig, StateRegistry, Store, Version, View, Viewer,
    registry::{Call, Outcome},
    wire::Input,
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

use crate::tab::Tab;

/// Where it hurts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sore {
    #[default]
    Nowhere,
    Rejection,
    Prepare,
    PrepareRejection,
    Authorize,
    AuthorizeRejection,
    Apply,
    Signals,
    Update,
    Render,
    Serialize,
    NotFinite,
    Reserved,
}

/// A state in which anything may panic, depending on what was applied to it.
#[derive(Clone, Debug, Default, Deserialize)]
struct Fragile {
    value: i64,
    float: f64,
    map: BTreeMap<String, i64>,
    #[serde(default)]
    sore: Sore,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.sore, Sore::Serialize, "sore in serialize");
        let mut fields = serializer.serialize_struct("Fragile", 4)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("float", &self.float)?;
        fields.serialize_field("map", &self.map)?;
        fields.serialize_field("sore", &self.sore)?;
        fields.end()
    }
}

impl ReactiveState for Fragile {
    const NAME: &'static str = "fragile";

    fn signals(&self) -> impl Serialize {
        assert_ne!(self.sore, Sore::Signals, "sore in signals");
        BTreeMap::from([("value", self.value)])
    }
}

/// Sets the value and hurts somewhere.
#[derive(Debug, Serialize, Deserialize)]
struct Hurt {
    value: i64,
    sore: Sore,
}

impl Event for Hurt {
    type State = Fragile;
    const NAME: &'static str = "hurt";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        assert_ne!(self.sore, Sore::Prepare, "sore in prepare");
        if self.sore == Sore::PrepareRejection {
            Err(Rejection::not_found("there is no such price"))
        } else {
            Ok(())
        }
    }

    fn authorize(&self, _: &Fragile, _: &Viewer) -> Result<(), Rejection> {
        assert_ne!(self.sore, Sore::Authorize, "sore in authorize");
        if self.sore == Sore::AuthorizeRejection { Err(Rejection::forbidden("not you")) } else { Ok(()) }
    }

    fn apply(&self, fragile: &mut Fragile, context: &mut Context<Fragile>) -> Result<(), Rejection> {
        // Half of it is done before it goes wrong.
        fragile.value = self.value;
        fragile.map.insert("half".to_owned(), self.value);
        fragile.sore = self.sore;
        context.reply(Elements::remove("#reply"));
        context.broadcast(Elements::remove("#broadcast"));
        context.after(|_| async { unreachable!("work of an event that was not accepted") });
        match self.sore {
            Sore::Rejection => return Err(Rejection::invalid("no").field("value")),
            Sore::Apply => panic!("sore in apply"),
            Sore::NotFinite => fragile.float = f64::NAN,
            Sore::Reserved => drop(fragile.map.insert("__proto__".to_owned(), 1)),
            _ => {}
        }
        Ok(())
    }
}

/// An event that works.
#[derive(Serialize, Deserialize)]
struct Set {
    value: i64,
}

impl Event for Set {
    type State = Fragile;
    const NAME: &'static str = "set";

    fn apply(&self, fragile: &mut Fragile, _: &mut Context<Fragile>) -> Result<(), Rejection> {
        fragile.value = self.value;
        Ok(())
    }
}

/// Updates by itself.
struct Steps;

impl View for Steps {
    type State = Fragile;
    const NAME: &'static str = "steps";

    fn render(&self, fragile: &Fragile) -> Elements {
        Elements::outer(format!("<p id=\"steps\">{}</p>", fragile.value))
    }

    fn update(&self, _: &Fragile, after: &Fragile) -> Vec<Elements> {
        assert_ne!(after.sore, Sore::Update, "sore in update");
        vec![self.render(after)]
    }
}

/// Updates by rendering.
struct Whole;

impl View for Whole {
    type State = Fragile;
    const NAME: &'static str = "whole";

    fn render(&self, fragile: &Fragile) -> Elements {
        assert_ne!(fragile.sore, Sore::Render, "sore in render");
        Elements::outer(format!("<p id=\"whole\">{}</p>", fragile.value))
    }
}

struct Patient {
    registry: Arc<StateRegistry>,
    fragile: Handle<Fragile>,
    memory: Arc<dyn Store>,
    store: Arc<FaultyStore>,
}

impl Patient {
    async fn new() -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, 100));
        let store = FaultyStore::new(Arc::clone(&memory));
        let registry = StateRegistry::builder()
            .store(Arc::clone(&store))
            .state::<Fragile>(StateConfig::global().access(Access::public()).persist(), |state| {
                state.event::<Hurt>().event::<Set>().view(Steps).view(Whole)
            })
            .build()
            .unwrap();
        let fragile = registry.global::<Fragile>().unwrap();
        fragile.send(Set { value: 1 }).await.unwrap();
        Self { registry, fragile, memory, store }
    }

    async fn stored(&self) -> (Version, Bytes) {
        let record = self.memory.load(self.fragile.key(), None).await.unwrap().record.unwrap();
        (record.version, record.data)
    }

    async fn dispatch(&self, sore: Sore, wants_view: bool) -> Result<Outcome, Error> {
        let body = serde_json::to_vec(&Hurt { value: 99, sore }).unwrap();
        let input = Input::parse(None, Some("application/json"), &body).unwrap();
        let key = self.fragile.key().clone();
        let mut call = Call::new(key, Hurt::NAME, Viewer::application(), input);
        call.wants_view = wants_view;
        self.registry.dispatch(call).await
    }
}

const TOPICS: [&str; 3] = ["fragile", "fragile.steps", "fragile.whole"];

#[tokio::test]
async fn law_07_whatever_goes_wrong_nothing_has_changed_and_the_next_event_works() {
    let patient = Patient::new().await;
    let mut tab = Tab::open(&patient.registry, &Viewer::application(), &TOPICS).await;
    for (value, sore) in [
        Sore::Rejection,
        Sore::Prepare,
        Sore::PrepareRejection,
        Sore::Authorize,
        Sore::AuthorizeRejection,
        Sore::Apply,
        Sore::Signals,
        Sore::Update,
        Sore::Render,
        Sore::Serialize,
        Sore::NotFinite,
        Sore::Reserved,
    ]
    .into_iter()
    .enumerate()
    {
        let before = (patient.stored().await, patient.fragile.read().await.unwrap());
        let error = patient.dispatch(sore, false).await.unwrap_err();
        let is_rejection =
            matches!(sore, Sore::Rejection | Sore::PrepareRejection | Sore::AuthorizeRejection);
        match &error {
            Error::Rejected(_) => assert!(is_rejection, "{sore:?}"),
            Error::Internal { .. } => {
                assert!(!is_rejection, "{sore:?}");
                assert!(!error.to_string().contains("sore"), "internals stay in the log: {error}");
            }
            other => panic!("{sore:?}: {other:?}"),
        }
        let after = (patient.stored().await, patient.fragile.read().await.unwrap());
        assert_eq!(after.0, before.0, "{sore:?} changed what is stored");
        assert_eq!(after.1.version(), before.1.version(), "{sore:?}");
        assert_eq!(format!("{:?}", *after.1), format!("{:?}", *before.1), "{sore:?} changed the state");
        assert_eq!(tab.read(), 0, "{sore:?} was heard of");

        let value = i64::try_from(value).unwrap() + 2;
        patient.fragile.send(Set { value }).await.unwrap();
        tab.read();
        tab.page.follows(&tab.key, &serde_json::json!({ "value": value })).unwrap();
        for view in ["steps", "whole"] {
            assert!(
                tab.page.html().contains(&format!("<p id=\"{view}\">{value}</p>")),
                "{}",
                tab.page.html()
            );
        }
    }
    patient.registry.settle().await;
}

#[tokio::test]
async fn law_07_a_panic_in_signals_fails_the_event_whose_caller_wants_the_view() {
    let patient = Patient::new().await;
    let before = patient.stored().await;
    assert!(matches!(patient.dispatch(Sore::Signals, true).await, Err(Error::Internal { .. })));
    assert_eq!(patient.stored().await, before);
    patient.fragile.send(Set { value: 7 }).await.unwrap();
}

#[tokio::test]
async fn law_07_what_json_cannot_give_back_is_refused_though_nobody_looks() {
    let patient = Patient::new().await;
    for sore in [Sore::NotFinite, Sore::Reserved] {
        let before = patient.stored().await;
        assert!(matches!(patient.dispatch(sore, false).await, Err(Error::Internal { .. })), "{sore:?}");
        assert_eq!(patient.stored().await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn law_07_a_store_that_fails_changes_nothing() {
    let patient = Patient::new().await;
    let mut tab = Tab::open(&patient.registry, &Viewer::application(), &TOPICS).await;
    for fault in [StoreFault::Fail, StoreFault::Hang, StoreFault::Conflict] {
        let before = (patient.stored().await, patient.fragile.read().await.unwrap());
        patient.store.set(fault);
        let error = patient.fragile.send(Set { value: 50 }).await.unwrap_err();
        assert!(!matches!(error, Error::Internal { .. } | Error::Rejected(_)), "{fault:?}: {error:?}");
        patient.store.set(StoreFault::None);
        // A store that failed several times in a row is asked again after a moment.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = (patient.stored().await, patient.fragile.read().await.unwrap());
        assert_eq!(after.0, before.0, "{fault:?}");
        assert_eq!((after.1.value, after.1.version()), (before.1.value, before.1.version()), "{fault:?}");
        assert_eq!(tab.read(), 0, "{fault:?} was heard of");
        patient.fragile.send(Set { value: before.1.value + 1 }).await.unwrap();
        assert!(tab.read() > 0);
    }
}

#[tokio::test]
async fn law_07_a_closure_that_panics_or_rejects_changes_nothing() {
    let patient = Patient::new().await;
    let before = patient.stored().await;
    let panicked = patient
        .fragile
        .update(|fragile| {
            fragile.value = 99;
            panic!("sore in a closure")
        })
        .await;
    assert!(matches!(panicked, Err(Error::Internal { .. })));
    let rejected = patient
        .fragile
        .update(|fragile| {
            fragile.value = 99;
            Err(Rejection::conflict("no"))
        })
        .await;
    assert!(matches!(rejected, Err(Error::Rejected(_))));
    assert_eq!(patient.stored().await, before);
    assert_eq!(patient.fragile.read().await.unwrap().value, 1);
}

#[tokio::test]
async fn law_07_an_event_may_repair_a_state_that_cannot_be_shown() {
    let patient = Patient::new().await;
    let mut tab = Tab::rendered(&patient.registry, &Viewer::application(), &["fragile"]).await;
    let sore = |sore| {
        move |fragile: &mut Fragile| {
            fragile.sore = sore;
            fragile.value += 1;
            Ok(())
        }
    };
    patient.fragile.update(sore(Sore::Signals)).await.unwrap();
    tab.connect(&patient.registry).await;
    patient.fragile.update(sore(Sore::default())).await.unwrap();
    tab.read();
    let value = patient.fragile.read().await.unwrap().value;
    tab.page.follows(&tab.key, &serde_json::json!({ "value": value })).unwrap();
}
