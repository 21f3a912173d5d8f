//! Access to other states and resources, from events and from handles.

use std::sync::{Arc, Mutex};

use faststate_core::{
    Access, Context, Error, Event, EventId, Handle, PrepareContext, ReactiveState, Rejection, SessionId,
    StateConfig, StateRegistry, Viewer, registry::MaintenanceGate,
};
use serde::{Deserialize, Serialize};

/// A resource that records text.
type Journal = Mutex<Vec<String>>;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    credit: i64,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Lot {
    bid: i64,
}

impl ReactiveState for Lot {
    const NAME: &'static str = "lot";
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Panel {
    open: bool,
}

impl ReactiveState for Panel {
    const NAME: &'static str = "panel";
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Basket {
    items: u32,
}

impl ReactiveState for Basket {
    const NAME: &'static str = "basket";
}

#[derive(Serialize, Deserialize)]
struct Bid {
    amount: i64,
    #[serde(skip)]
    credit: i64,
}

impl Event for Bid {
    type State = Lot;
    const NAME: &'static str = "bid";

    async fn prepare(&mut self, scene: &PrepareContext) -> Result<(), Rejection> {
        let account = scene.read::<Account>(None).await;
        self.credit = account.map_err(|error| Rejection::conflict(error.to_string()))?.credit;
        Ok(())
    }

    fn apply(&self, lot: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        if self.amount > self.credit {
            return Err(Rejection::conflict("more than your credit"));
        }
        lot.bid = self.amount;
        let journal = context.resource::<Journal>();
        context.after(move |lot| async move {
            let same = lot.resource::<Journal>().zip(journal.clone());
            assert!(same.is_some_and(|(one, other)| Arc::ptr_eq(&one, &other)), "the resource is shared");
            let bid = lot.read().await.unwrap().bid;
            journal.unwrap().lock().unwrap().push(format!("a bid of {bid}"));
        });
        Ok(())
    }
}

fn registry() -> Arc<StateRegistry> {
    StateRegistry::builder()
        .resource(Journal::default())
        .state::<Account>(StateConfig::user(), |state| state)
        .state::<Lot>(StateConfig::record().access(Access::public()), |state| state.event::<Bid>())
        .state::<Panel>(StateConfig::component(), |state| state)
        .state::<Basket>(StateConfig::session(), |state| state)
        .build()
        .unwrap()
}

async fn bid(lot: &Handle<Lot>, user: &str, amount: i64) -> Result<(), Error> {
    let viewer = Viewer::application().with_user(user);
    lot.send_as(Bid { amount, credit: 0 }, viewer, EventId::random()).await.map(drop)
}

#[tokio::test]
async fn prepare_reads_another_state_of_the_viewer() {
    let registry = registry();
    let credit = registry.user::<Account>("ada").unwrap();
    let grant = |account: &mut Account| {
        account.credit = 10;
        Ok(())
    };
    credit.update(grant).await.unwrap();
    let lot = registry.record::<Lot>("1").unwrap();
    bid(&lot, "ada", 7).await.unwrap();
    assert!(matches!(bid(&lot, "ada", 11).await, Err(Error::Rejected(_))));
    assert!(matches!(bid(&lot, "ben", 1).await, Err(Error::Rejected(_))), "the credit belongs to one user");
    assert_eq!(lot.read().await.unwrap().bid, 7);
}

#[tokio::test]
async fn prepare_without_viewer_has_no_user_state() {
    let lot = registry().record::<Lot>("1").unwrap();
    let refused = lot.send(Bid { amount: 0, credit: 0 }).await;
    assert!(matches!(refused, Err(Error::Rejected(rejection)) if rejection.message() == "sign in first"));
}

#[tokio::test]
async fn after_work_and_handles_have_resources() {
    let registry = registry();
    let lot = registry.record::<Lot>("1").unwrap();
    bid(&lot, "ada", 0).await.unwrap();
    let behind = MaintenanceGate::new(Arc::clone(&registry) as _, "closed");
    faststate_core::Registry::settle(&behind).await;
    let lot = Handle::<Lot>::of(Arc::new(behind), &Viewer::application(), Some("1")).unwrap();
    let journal = lot.resource::<Journal>().unwrap();
    assert_eq!(*journal.lock().unwrap(), ["a bid of 0"]);
    assert!(lot.resource::<String>().is_none());
}

#[tokio::test]
async fn law_08_handle_by_owner_reaches_only_that_owner() {
    let registry = registry();
    let (one, other) = (SessionId::random(), SessionId::random());
    let basket = registry.session::<Basket>(one).unwrap();
    assert_eq!(basket.key(), registry.handle::<Basket>(&Viewer::session(one), None).unwrap().key());
    assert_ne!(basket.key(), registry.session::<Basket>(other).unwrap().key());
    let panel = registry.component::<Panel>(one, "left").unwrap();
    assert_eq!(panel.key(), registry.handle::<Panel>(&Viewer::session(one), Some("left")).unwrap().key());
    assert_ne!(panel.key(), registry.component::<Panel>(one, "right").unwrap().key());
    // A state of another scope has no instance of that owner.
    assert!(matches!(registry.user::<Basket>("ada"), Err(Error::Unknown)));
    assert!(matches!(registry.session::<Account>(one), Err(Error::Unknown)));
    assert!(matches!(registry.session::<Panel>(one), Err(Error::Unknown)));
    assert!(matches!(registry.component::<Lot>(one, "1"), Err(Error::Unknown)));
}
