//! Logout and revocation when the streams are on another node.

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

/// A broadcaster that refuses peer messages while its flag is set.
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

/// Two nodes with a client each. Faults stop the first node from sending or the second from receiving.
struct Two {
    registries: [Arc<StateRegistry>; 2],
    clients: [Client; 2],
    doorman: Doorman,
    sender: Arc<Refusing>,
    receiver: Arc<FaultyBroadcaster>,
}

fn two() -> Two {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let receiver = FaultyBroadcaster::new(Arc::new(hub.peer()));
    let sender = Arc::new(Refusing(hub, Mutex::new(false)));
    let node = |broadcaster: Arc<dyn Broadcaster>| {
        let builder = StateRegistry::builder().store(Arc::clone(&store)).broadcaster(broadcaster);
        registry_with(builder, |config| config.persist())
    };
    let registries =
        [node(Arc::<Refusing>::clone(&sender)), node(Arc::<FaultyBroadcaster>::clone(&receiver))];
    let doorman = Doorman::default();
    let clients = registries.each_ref().map(|registry| Client::of(endpoint(registry, &doorman)).datastar());
    Two { registries, clients, doorman, sender, receiver }
}

#[tokio::test(start_paused = true)]
async fn law_08_revocation_closes_streams_of_user_on_every_node() {
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
        // The stream ends. The page gets the notice for forbidden topics when it reconnects.
        stream.text().await;
    }
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(
        (here.endpoint.connections(), there.endpoint.connections()),
        (0, 1),
        "bob's stream stays open"
    );
    drop(registry);
}

#[tokio::test(start_paused = true)]
async fn law_08_logout_closes_only_streams_of_its_session() {
    let Two { clients: [mut here, mut there], .. } = two();
    let counter = "/faststate/sse?states=counter";
    here.get("/faststate/sse?states=note").await;
    // One browser on both nodes would need a shared secret, so each node has a session of its own.
    there.get(counter).await;
    let (session, other) = (session_of(&here).await, session_of(&there).await);
    let (ours, mut theirs) = (there.get(counter).await, here.get(counter).await);
    theirs.until("_v").await;
    here.endpoint.revoke(Revocation::session(&other)).await.unwrap();
    ours.text().await;
    assert_eq!(here.endpoint.connections(), 1);
    assert_ne!(session, other);
}

/// Returns the client's session.
async fn session_of(client: &Client) -> faststate_core::SessionId {
    let request = http::Request::builder().header("cookie", client.cookie.clone().unwrap());
    let (parts, ()) = request.body(()).unwrap().into_parts();
    client.endpoint.visitor(&parts).await.unwrap().session()
}

#[tokio::test(start_paused = true)]
async fn law_08_revocation_is_retried_until_the_node_is_reachable() {
    let Two { registries: [registry, _], clients: [_, there], doorman, sender, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    *sender.1.lock() = true;
    doorman.close();
    let asked = Instant::now();
    let revoked = registry.revoke(Revocation::user("ann")).await;
    assert!(revoked.is_err() && asked.elapsed() <= Duration::from_secs(2), "{revoked:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1);
    *sender.1.lock() = false;
    let back = Instant::now();
    stream.text().await;
    assert!(back.elapsed() <= Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn law_06_unsent_revocations_wait_in_one_bounded_task() {
    let Two { registries: [registry, _], clients: [_, there], doorman, sender, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    *sender.1.lock() = true;
    doorman.close();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // Ann's revocation is the oldest, so it is not among the ones that are kept.
    let first = registry.revoke(Revocation::user("ann"));
    let others: Vec<_> =
        (0..30_000).map(|guest| registry.revoke(Revocation::user(&guest.to_string()))).collect();
    let revoked = futures::future::join(first, futures::future::join_all(others)).await;
    assert!(revoked.0.is_err() && revoked.1.iter().all(Result::is_err));
    assert!(tasks() <= before + 1, "{} tasks more", tasks() - before);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1);
    *sender.1.lock() = false;
    let back = Instant::now();
    stream.until("gone").await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
    assert!(registry.revoke(Revocation::user("ann")).await.is_ok(), "later revocations are sent");
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn law_08_node_rechecks_its_streams_after_a_disconnect() {
    let Two { clients: [_, there], doorman, receiver, .. } = two();
    let mut there = there.with("x-user", "ann");
    let mut stream = there.get(VAULT).await.patient();
    stream.until("gold").await;
    doorman.close();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(there.endpoint.connections(), 1, "no revocation was sent");
    let back = Instant::now();
    receiver.announce_loss();
    assert!(stream.text().await.contains("gone"));
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
}
