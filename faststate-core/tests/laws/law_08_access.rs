//! Laws 8 and 9: keys come from the viewer, unknown and forbidden targets get the same error, and only an event's own
//! fields are read from the input.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use faststate_core::{
    Access, Context, Error, Event, Key, PrepareContext, ReactiveState, Registry, Rejection, Scope, SessionId,
    StateConfig, StateRegistry, Viewer, internal::TopicName, registry::Call, wire::Input,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Basket {
    items: i64,
    total: i64,
    secret: String,
}

impl ReactiveState for Basket {
    const NAME: &'static str = "basket";
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Profile {
    name: String,
}

impl ReactiveState for Profile {
    const NAME: &'static str = "profile";
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Order {
    total: i64,
}

impl ReactiveState for Order {
    const NAME: &'static str = "order";
}

/// Adds items to the basket. The price comes from a resource, never from the input.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Put {
    items: i64,
    #[serde(skip)]
    price: i64,
}

impl Event for Put {
    type State = Basket;
    const NAME: &'static str = "put";

    async fn prepare(&mut self, scene: &PrepareContext) -> Result<(), Rejection> {
        assert_eq!(self.price, 0, "a browser has filled a skipped field");
        self.price = *scene.resource::<i64>().unwrap();
        Ok(())
    }

    fn apply(&self, basket: &mut Basket, _: &mut Context<Basket>) -> Result<(), Rejection> {
        basket.items += self.items;
        basket.total += self.items * self.price;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Pay {
    amount: i64,
}

impl Event for Pay {
    type State = Order;
    const NAME: &'static str = "pay";

    fn apply(&self, order: &mut Order, _: &mut Context<Order>) -> Result<(), Rejection> {
        order.total -= self.amount;
        Ok(())
    }
}

fn registry() -> Arc<StateRegistry> {
    let owners = Access::when(|viewer, key| {
        let id = key.id().unwrap_or_default();
        viewer.has_role("clerk") || viewer.user().is_some_and(|user| id.starts_with(&format!("{user}:")))
    });
    StateRegistry::builder()
        .resource(7_i64)
        .state::<Basket>(StateConfig::session().access(Access::public()), |state| state.event::<Put>())
        .state::<Profile>(StateConfig::user(), |state| state)
        .state::<Order>(StateConfig::record().access(owners), |state| {
            state.event::<Pay>().initial(|key| async move {
                let exists = key.id().is_some_and(|id| !id.ends_with("missing"));
                exists.then_some(Order { total: 100 })
            })
        })
        .build()
        .unwrap()
}

fn session(byte: u8) -> Viewer {
    Viewer::session(SessionId::from_bytes([byte; 16]))
}

fn call(key: &Key, event: &str, viewer: &Viewer, query: &str, body: &str) -> Call {
    let content_type = (!body.is_empty()).then_some("application/json");
    let input = Input::parse(Some(query), content_type, body.as_bytes()).unwrap();
    Call::new(key.clone(), event.to_owned(), viewer.clone(), input).wanting_view()
}

#[tokio::test]
async fn law_08_key_comes_from_the_viewer() {
    let registry = registry();
    let (ann, ben) = (session(1), session(2).with_user("ben"));
    let key = registry.key("basket", &ann, None).unwrap();
    assert_eq!(key.scope(), Scope::Session);
    assert_ne!(key, registry.key("basket", &ben, None).unwrap());
    assert_eq!(registry.key("profile", &ben, None).unwrap().owner().as_deref(), Some("ben"));
    assert!(matches!(registry.key("profile", &ann, None), Err(Error::SignIn)));
    assert!(matches!(registry.key("basket", &Viewer::application(), None), Err(Error::Unknown)));
    // A session state has no id, even if the path contains one.
    let other = registry.key("basket", &ann, Some(&SessionId::from_bytes([2; 16]).to_string()));
    assert!(matches!(other, Err(Error::Unknown)));

    registry.dispatch(call(&key, "put", &ann, "items=3", "")).await.unwrap();
    let basket = |viewer: &Viewer| registry.handle::<Basket>(viewer, None).unwrap();
    assert_eq!(basket(&ann).read().await.unwrap().items, 3);
    assert_eq!(basket(&ben).read().await.unwrap().items, 0);
}

#[tokio::test]
async fn law_08_unknown_and_forbidden_give_the_same_error() {
    let registry = registry();
    let (ann, clerk) = (session(1).with_user("ann"), session(3).with_role("clerk"));
    let key = |id: &str| registry.key("order", &ann, Some(id)).unwrap();
    registry.dispatch(call(&key("ann:1"), "pay", &ann, "amount=10", "")).await.unwrap();
    registry.dispatch(call(&key("ben:1"), "pay", &clerk, "amount=1", "")).await.unwrap();

    let mut answers = Vec::new();
    for (id, event, input) in [
        ("ben:1", "pay", "amount=1"),
        ("ben:1", "pay", "nonsense=1"),
        ("ben:1", "nonsense", "amount=1"),
        ("ben:2", "pay", "amount=1"),
        ("ben:missing", "pay", "amount=1"),
        ("ann:missing", "pay", "amount=1"),
        ("ann:1", "nonsense", "amount=1"),
    ] {
        answers.push(registry.dispatch(call(&key(id), event, &ann, input, "")).await.unwrap_err());
    }
    for topic in
        ["order:ben%3A1", "order:ben%3Amissing", "order:ann%3Amissing", "order:ann%3A1.nonsense", "nonsense"]
    {
        let topic: TopicName = topic.parse().unwrap();
        answers.push(registry.engine().visible(&topic, &ann).await.unwrap_err());
        answers.push(registry.engine().follow(&topic, &ann, None, 1).await.unwrap_err());
    }
    for answer in answers {
        assert!(matches!(answer, Error::Unknown), "{answer:?}");
    }
    let order = registry.record::<Order>("ben:1").unwrap();
    assert_eq!(order.read().await.unwrap().total, 99, "only the clerk has changed it");
    assert_eq!(registry.engine().followers(order.key()), 0);
}

#[tokio::test]
async fn law_08_access_is_checked_for_each_event() {
    let open = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&open);
    let policy = Access::when(move |_, _| asked.load(Ordering::SeqCst));
    let registry = StateRegistry::builder()
        .resource(7_i64)
        .state::<Basket>(StateConfig::global().access(policy), |state| state.event::<Put>())
        .build()
        .unwrap();
    let viewer = session(1);
    let key = registry.key("basket", &viewer, None).unwrap();
    let put = || registry.dispatch(call(&key, "put", &viewer, "items=1", ""));
    put().await.unwrap();
    open.store(false, Ordering::SeqCst);
    assert!(matches!(put().await, Err(Error::Unknown)));
    assert!(!registry.allows(&key, &viewer), "the recheck of an open stream refuses");
    open.store(true, Ordering::SeqCst);
    put().await.unwrap();
}

#[tokio::test]
async fn law_08_shared_state_without_a_policy_is_not_built() {
    for config in [StateConfig::global(), StateConfig::record()] {
        let built = StateRegistry::builder().state::<Profile>(config, |state| state).build();
        let mistakes = built.unwrap_err().to_string();
        assert!(mistakes.contains("access"), "{mistakes}");
    }
}

#[tokio::test]
async fn law_09_only_an_events_own_fields_count() {
    let registry = registry();
    let viewer = session(1);
    let key = registry.key("basket", &viewer, None).unwrap();
    let signals =
        r#"{"basket":{"items":2,"total":1000,"secret":"x","price":1},"total":1000,"secret":"x","price":1}"#;
    for (query, body) in [("items=2", ""), ("items=2&total=1000&secret=x&price=1", ""), ("", signals)] {
        registry.dispatch(call(&key, "put", &viewer, query, body)).await.unwrap();
    }
    let basket = registry.handle::<Basket>(&viewer, None).unwrap().read().await.unwrap();
    assert_eq!((basket.items, basket.total, basket.secret.as_str()), (6, 42, ""));
}

#[tokio::test]
async fn law_09_input_of_the_wrong_type_is_refused_and_nothing_changes() {
    let registry = registry();
    let viewer = session(1);
    let key = registry.key("basket", &viewer, None).unwrap();
    for body in
        [r#"{"items":"many"}"#, r#"{"items":1e999}"#, r#"{"items":[1]}"#, r#"{"items":9223372036854775808}"#]
    {
        let Ok(input) = Input::parse(None, Some("application/json"), body.as_bytes()) else { continue };
        let outcome = registry.dispatch(Call::new(key.clone(), "put", viewer.clone(), input)).await;
        assert!(matches!(outcome, Err(Error::Input(_))), "{body}: {outcome:?}");
    }
    assert_eq!(registry.handle::<Basket>(&viewer, None).unwrap().read().await.unwrap().version().seq, 0);
}
