//! Law 7: after a rejection, a panic or a store failure, the state is byte for byte the same as before, nothing is sent,
//! and the next event works.

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

/// The place at which an event fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailAt {
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

/// A state whose methods panic as the last event requested.
#[derive(Clone, Debug, Default, Deserialize)]
struct Fragile {
    value: i64,
    float: f64,
    map: BTreeMap<String, i64>,
    #[serde(default)]
    fail_at: FailAt,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.fail_at, FailAt::Serialize, "fail_at in serialize");
        let mut fields = serializer.serialize_struct("Fragile", 4)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("float", &self.float)?;
        fields.serialize_field("map", &self.map)?;
        fields.serialize_field("fail_at", &self.fail_at)?;
        fields.end()
    }
}

impl ReactiveState for Fragile {
    const NAME: &'static str = "fragile";

    fn signals(&self) -> impl Serialize {
        assert_ne!(self.fail_at, FailAt::Signals, "fail_at in signals");
        BTreeMap::from([("value", self.value)])
    }
}

/// Sets the value and fails at one place.
#[derive(Debug, Serialize, Deserialize)]
struct Fail {
    value: i64,
    fail_at: FailAt,
}

impl Event for Fail {
    type State = Fragile;
    const NAME: &'static str = "fail";

    async fn prepare(&mut self, _: &PrepareContext) -> Result<(), Rejection> {
        assert_ne!(self.fail_at, FailAt::Prepare, "fail_at in prepare");
        if self.fail_at == FailAt::PrepareRejection {
            Err(Rejection::not_found("there is no such price"))
        } else {
            Ok(())
        }
    }

    fn authorize(&self, _: &Fragile, _: &Viewer) -> Result<(), Rejection> {
        assert_ne!(self.fail_at, FailAt::Authorize, "fail_at in authorize");
        if self.fail_at == FailAt::AuthorizeRejection { Err(Rejection::forbidden("not you")) } else { Ok(()) }
    }

    fn apply(&self, fragile: &mut Fragile, context: &mut Context<Fragile>) -> Result<(), Rejection> {
        // Some fields are changed before the failure.
        fragile.value = self.value;
        fragile.map.insert("half".to_owned(), self.value);
        fragile.fail_at = self.fail_at;
        context.reply(Elements::remove("#reply"));
        context.broadcast(Elements::remove("#broadcast"));
        context.after(|_| async { unreachable!("work of an event that was not accepted") });
        match self.fail_at {
            FailAt::Rejection => return Err(Rejection::invalid("no").field("value")),
            FailAt::Apply => panic!("fail_at in apply"),
            FailAt::NotFinite => fragile.float = f64::NAN,
            FailAt::Reserved => drop(fragile.map.insert("__proto__".to_owned(), 1)),
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

/// A view with its own `update`.
struct Steps;

impl View for Steps {
    type State = Fragile;
    const NAME: &'static str = "steps";

    fn render(&self, fragile: &Fragile) -> Elements {
        Elements::outer(format!("<p id=\"steps\">{}</p>", fragile.value))
    }

    fn update(&self, _: &Fragile, after: &Fragile) -> Vec<Elements> {
        assert_ne!(after.fail_at, FailAt::Update, "fail_at in update");
        vec![self.render(after)]
    }
}

/// A view with the provided `update`, which renders.
struct Whole;

impl View for Whole {
    type State = Fragile;
    const NAME: &'static str = "whole";

    fn render(&self, fragile: &Fragile) -> Elements {
        assert_ne!(fragile.fail_at, FailAt::Render, "fail_at in render");
        Elements::outer(format!("<p id=\"whole\">{}</p>", fragile.value))
    }
}

struct Fixture {
    registry: Arc<StateRegistry>,
    fragile: Handle<Fragile>,
    memory: Arc<dyn Store>,
    store: Arc<FaultyStore>,
}

impl Fixture {
    async fn new() -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, 100));
        let store = FaultyStore::new(Arc::clone(&memory));
        let registry = StateRegistry::builder()
            .store(Arc::clone(&store))
            .state::<Fragile>(StateConfig::global().access(Access::public()).persist(), |state| {
                state.event::<Fail>().event::<Set>().view(Steps).view(Whole)
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

    async fn dispatch(&self, fail_at: FailAt, wants_view: bool) -> Result<Outcome, Error> {
        let body = serde_json::to_vec(&Fail { value: 99, fail_at }).unwrap();
        let input = Input::parse(None, Some("application/json"), &body).unwrap();
        let key = self.fragile.key().clone();
        let mut call = Call::new(key, Fail::NAME, Viewer::application(), input);
        call.wants_view = wants_view;
        self.registry.dispatch(call).await
    }
}

const TOPICS: [&str; 3] = ["fragile", "fragile.steps", "fragile.whole"];

#[tokio::test]
async fn law_07_failed_event_changes_nothing_and_the_next_one_works() {
    let fixture = Fixture::new().await;
    let mut tab = Tab::open(&fixture.registry, &Viewer::application(), &TOPICS).await;
    for (value, fail_at) in [
        FailAt::Rejection,
        FailAt::Prepare,
        FailAt::PrepareRejection,
        FailAt::Authorize,
        FailAt::AuthorizeRejection,
        FailAt::Apply,
        FailAt::Signals,
        FailAt::Update,
        FailAt::Render,
        FailAt::Serialize,
        FailAt::NotFinite,
        FailAt::Reserved,
    ]
    .into_iter()
    .enumerate()
    {
        let before = (fixture.stored().await, fixture.fragile.read().await.unwrap());
        let error = fixture.dispatch(fail_at, false).await.unwrap_err();
        let is_rejection =
            matches!(fail_at, FailAt::Rejection | FailAt::PrepareRejection | FailAt::AuthorizeRejection);
        match &error {
            Error::Rejected(_) => assert!(is_rejection, "{fail_at:?}"),
            Error::Internal { .. } => {
                assert!(!is_rejection, "{fail_at:?}");
                assert!(!error.to_string().contains("fail_at"), "internals stay in the log: {error}");
            }
            other => panic!("{fail_at:?}: {other:?}"),
        }
        let after = (fixture.stored().await, fixture.fragile.read().await.unwrap());
        assert_eq!(after.0, before.0, "{fail_at:?} changed what is stored");
        assert_eq!(after.1.version(), before.1.version(), "{fail_at:?}");
        assert_eq!(format!("{:?}", *after.1), format!("{:?}", *before.1), "{fail_at:?} changed the state");
        assert_eq!(tab.read(), 0, "{fail_at:?} was heard of");

        let value = i64::try_from(value).unwrap() + 2;
        fixture.fragile.send(Set { value }).await.unwrap();
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
    fixture.registry.settle().await;
}

#[tokio::test]
async fn law_07_panic_in_signals_fails_the_event_that_wants_the_view() {
    let fixture = Fixture::new().await;
    let before = fixture.stored().await;
    assert!(matches!(fixture.dispatch(FailAt::Signals, true).await, Err(Error::Internal { .. })));
    assert_eq!(fixture.stored().await, before);
    fixture.fragile.send(Set { value: 7 }).await.unwrap();
}

#[tokio::test]
async fn law_07_state_that_json_cannot_hold_is_refused_unfollowed() {
    let fixture = Fixture::new().await;
    for fail_at in [FailAt::NotFinite, FailAt::Reserved] {
        let before = fixture.stored().await;
        assert!(matches!(fixture.dispatch(fail_at, false).await, Err(Error::Internal { .. })), "{fail_at:?}");
        assert_eq!(fixture.stored().await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn law_07_store_failure_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut tab = Tab::open(&fixture.registry, &Viewer::application(), &TOPICS).await;
    for fault in [StoreFault::Fail, StoreFault::Hang, StoreFault::Conflict] {
        let before = (fixture.stored().await, fixture.fragile.read().await.unwrap());
        fixture.store.set(fault);
        let error = fixture.fragile.send(Set { value: 50 }).await.unwrap_err();
        assert!(!matches!(error, Error::Internal { .. } | Error::Rejected(_)), "{fault:?}: {error:?}");
        fixture.store.set(StoreFault::None);
        // After several failures in a row, the circuit breaker admits a call only after a pause.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = (fixture.stored().await, fixture.fragile.read().await.unwrap());
        assert_eq!(after.0, before.0, "{fault:?}");
        assert_eq!((after.1.value, after.1.version()), (before.1.value, before.1.version()), "{fault:?}");
        assert_eq!(tab.read(), 0, "{fault:?} was heard of");
        fixture.fragile.send(Set { value: before.1.value + 1 }).await.unwrap();
        assert!(tab.read() > 0);
    }
}

#[tokio::test]
async fn law_07_closure_that_panics_or_rejects_changes_nothing() {
    let fixture = Fixture::new().await;
    let before = fixture.stored().await;
    let panicked = fixture
        .fragile
        .update(|fragile| {
            fragile.value = 99;
            panic!("fail_at in a closure")
        })
        .await;
    assert!(matches!(panicked, Err(Error::Internal { .. })));
    let rejected = fixture
        .fragile
        .update(|fragile| {
            fragile.value = 99;
            Err(Rejection::conflict("no"))
        })
        .await;
    assert!(matches!(rejected, Err(Error::Rejected(_))));
    assert_eq!(fixture.stored().await, before);
    assert_eq!(fixture.fragile.read().await.unwrap().value, 1);
}

#[tokio::test]
async fn law_07_event_can_repair_a_state_whose_signals_panic() {
    let fixture = Fixture::new().await;
    let mut tab = Tab::rendered(&fixture.registry, &Viewer::application(), &["fragile"]).await;
    let fail_at = |fail_at| {
        move |fragile: &mut Fragile| {
            fragile.fail_at = fail_at;
            fragile.value += 1;
            Ok(())
        }
    };
    fixture.fragile.update(fail_at(FailAt::Signals)).await.unwrap();
    tab.connect(&fixture.registry).await;
    fixture.fragile.update(fail_at(FailAt::default())).await.unwrap();
    tab.read();
    let value = fixture.fragile.read().await.unwrap().value;
    tab.page.follows(&tab.key, &serde_json::json!({ "value": value })).unwrap();
}
