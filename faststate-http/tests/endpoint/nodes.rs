//! Logout and revocation, where the streams are on another node.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Broadcaster, Key, LocalBroadcaster, MemoryStore, Registry, Revocation, StateRegistry, Store,
    broadcast::{BroadcastError, Change, Inbox, Interest},
};
use faststate_testkit::faults::FaultyBroadcaster;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::app::{Client, Doorman, endpoint, registry_with};

const VAULT: &str = "/faststate/sse?states=vault:v1";

/// Carries everything, unless it is to refuse what is told.
#[derive(Debug)]
struct Refusing(LocalBroadcaster, Mutex<bool>);

#[async_trait]
impl Broadcaster for Refusing {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.0.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        if *self.1.lock() {
            return Err(BroadcastError::new("not now"));
        }
        self.0.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.0.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.0.attach(inbox);
    }
}

/// Two nodes, and a client of each; the first can be kept from telling, the second from hearing.
struct Two {
    registries: [Arc<StateRegistry>; 2],
    clients: [Client; 2],
    doorman: Doorman,
    mouth: Arc<Refusing>,
    ear: Arc<FaultyBroadcaster>,
}

fn two() -> Two {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let ear = FaultyBroadcaster::new(Arc::new(hub.peer()));
    let mouth = Arc::new(Refusing(hub, Mutex::new(false)));
    let node = |broadcaster: Arc<dyn Broadcaster>| {
        let builder = StateRegistry::builder().store(Arc::clone(&store)).broadcaster(broadcaster);
        registry_with(builder, |config| config.persist())
    };
    let registries = [node(Arc::<Refusing>::clone(&mouth)), node(Arc::<FaultyBroadcaster>::clone(&ear))];
    let doorman = Doorman::default();
    let clients = registries.each_ref().map(|registry| Client::of(endpoint(registry, &doorman)).datastar());
    Two { registries, clients, doorman, mouth, ear }
}

#[tokio::test(start_paused = true)]
async fn law_08_a_revocation_closes_a_users_streams_on_every_node() {
    let Two { registries: [registry, _], clients: [here, there], doorman, .. } = two();
    let (mut here, mut bob) = (here.with("x-user", "ann"), there.clone().with("x-user", "bob"));
    let mut there = there.with("x-user", "ann");
    let mut streams = [here.get(VAULT).await, there.get(VAULT).await];
    for stream in &mut streams {
        stream.until("gold").await;
    }
    bob.get(VAULT).await.until("gold").await;
    let mut bobs = bob.get(VAULT).await;
    bobs.until("gold").await;
    doorman.close();
    let asked = Instant::now();
    here.endpoint.revoke(Revocation::user("ann")).await.unwrap();
    for stream in streams {
        // It ends; what the page may not follow any more it is told when it comes back.
        stream.text().await;
    }
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!((here.endpoint.connections(), there.endpoint.connections()), (0, 1), "bob's goes on");
    drop(registry);
}

#[tokio::test(start_paused = true)]
async fn law_08_a_logout_closes_a_sessions_streams_on_every_node_and_no_others() {
    let Two { clients: [mut here, mut there], .. } = two();
    let counter = "/faststate/sse?states=counter";
    here.get("/faststate/sse?states=note").await;
    // The same browser on both nodes would need the same secret; one session of each will do.
    there.get(counter).await;
    let (session, other) = (visitor(&here).await, visitor(&there).await);
    let (ours, mut theirs) = (there.get(counter).await, here.get(counter).await);
    theirs.until("_v").await;
    here.endpoint.revoke(Revocation::session(&other)).await.unwrap();
    ours.text().await;
    assert_eq!(here.endpoint.connections(), 1);
    assert_ne!(session, other);
}

/// The client's session.
async fn visitor(client: &Client) -> faststate_core::SessionId {
    let request = http::Request::builder().header("cookie", client.cookie.clone().unwrap());
    let (parts, ()) = request.body(()).unwrap().into_parts();
    client.endpoint.visitor(&parts).await.unwrap().session()
}

#[tokio::test(start_paused = true)]
async fn law_08_who_cannot_be_told_is_told_later() {
    let Two { registries: [registry, _], clients: [_, there], doorman, mouth, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    *mouth.1.lock() = true;
    doorman.close();
    let asked = Instant::now();
    let told = registry.revoke(Revocation::user("ann")).await;
    assert!(told.is_err() && asked.elapsed() <= Duration::from_secs(2), "{told:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1);
    *mouth.1.lock() = false;
    let back = Instant::now();
    stream.text().await;
    assert!(back.elapsed() <= Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn law_06_revocations_wait_in_one_bounded_task_while_the_transport_is_down() {
    let Two { registries: [registry, _], clients: [_, there], doorman, mouth, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    *mouth.1.lock() = true;
    doorman.close();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // Ann's is not among the latest that are kept.
    let first = registry.revoke(Revocation::user("ann"));
    let others: Vec<_> =
        (0..30_000).map(|guest| registry.revoke(Revocation::user(&guest.to_string()))).collect();
    let told = futures::future::join(first, futures::future::join_all(others)).await;
    assert!(told.0.is_err() && told.1.iter().all(Result::is_err));
    assert!(tasks() <= before + 1, "{} tasks more", tasks() - before);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1);
    *mouth.1.lock() = false;
    let back = Instant::now();
    stream.until("gone").await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
    assert!(registry.revoke(Revocation::user("ann")).await.is_ok(), "those after it are told");
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn law_08_a_node_that_was_cut_off_checks_its_streams() {
    let Two { clients: [_, there], doorman, ear, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    doorman.close();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1, "nobody told it");
    let back = Instant::now();
    ear.announce_loss();
    assert!(stream.text().await.contains("gone"));
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
}
