//! The relay over a faulty service.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    BoxError, Broadcaster, Key, Scope, Version,
    broadcast::{Change, Channel, Receiver, Relay, RelayConnection, Transport},
};
use faststate_testkit::suites::{
    self,
    broadcaster::{ConnectedNodes, RecordingInbox},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// An in-memory publish/subscribe service.
#[derive(Debug, Default)]
struct Service {
    lines: Mutex<HashMap<usize, Listening>>,
    next: AtomicUsize,
    /// Accepts every message and delivers none.
    deaf: AtomicBool,
    away: AtomicBool,
    attempts: Mutex<Vec<Instant>>,
}

#[derive(Debug)]
struct Listening {
    receiver: Receiver,
    channels: Vec<Channel>,
}

/// A node's transport to the service.
#[derive(Debug)]
struct Way(Arc<Service>);

struct ToService(Arc<Service>, usize);

#[async_trait]
impl Transport for Way {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        self.0.attempts.lock().push(Instant::now());
        if self.0.away.load(Ordering::SeqCst) {
            return Err("away".into());
        }
        let line = self.0.next.fetch_add(1, Ordering::SeqCst);
        self.0.lines.lock().insert(line, Listening { receiver, channels: Vec::new() });
        Ok(Box::new(ToService(Arc::clone(&self.0), line)))
    }

    fn max_payload_bytes(&self) -> usize {
        1 << 16
    }
}

#[async_trait]
impl RelayConnection for ToService {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let mut lines = self.0.lines.lock();
        lines.get_mut(&self.1).ok_or("cut")?.channels.extend_from_slice(channels);
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        let mut lines = self.0.lines.lock();
        lines.get_mut(&self.1).ok_or("cut")?.channels.retain(|channel| !channels.contains(channel));
        Ok(())
    }

    async fn send(&self, letters: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        if self.0.deaf.load(Ordering::SeqCst) {
            return Ok(());
        }
        let lines = self.0.lines.lock();
        for (channel, payload) in letters {
            let listening = lines.values().filter(|line| line.channels.contains(channel));
            listening.for_each(|line| line.receiver.receive(payload.clone()));
        }
        Ok(())
    }
}

impl Drop for ToService {
    fn drop(&mut self) {
        self.0.lines.lock().remove(&self.1);
    }
}

async fn node(service: &Arc<Service>) -> Arc<dyn Broadcaster> {
    Arc::new(Relay::start(Way(Arc::clone(service))).await.unwrap())
}

fn change() -> Change {
    let (key, from) = (Key::new("test", Scope::Global, None, None).unwrap(), Version::start());
    Change { key, from, to: from.next(), schema: 1, data: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relay_passes_the_broadcaster_suite() {
    let service = Arc::default();
    let nodes: ConnectedNodes = [node(&service).await, node(&service).await, node(&service).await];
    suites::broadcaster::all(&nodes).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_undelivered_messages_are_detected_within_5_s() {
    let service = Arc::<Service>::default();
    let (a, b) = (node(&service).await, node(&service).await);
    let inbox = RecordingInbox::attached(&b);
    let change = change();
    let _interest = b.join(&change.key).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((inbox.losses(), service.attempts.lock().len()), (0, 2), "an idle connection is not dead");
    service.deaf.store(true, Ordering::SeqCst);
    a.publish(&change).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    service.deaf.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(inbox.losses(), 1);
    a.publish(&change).await.unwrap();
    assert_eq!(inbox.changes(&change.key), [change]);
}

#[tokio::test(start_paused = true)]
async fn law_06_reconnects_back_off_while_service_is_away() {
    let service = Arc::<Service>::default();
    let node = node(&service).await;
    let inbox = RecordingInbox::attached(&node);
    service.away.store(true, Ordering::SeqCst);
    service.lines.lock().values().for_each(|line| line.receiver.disconnected());
    sleep(Duration::from_secs(60)).await;
    assert!(node.publish(&change()).await.is_err());
    let interest = node.join(&change().key).await.unwrap();
    let attempts = service.attempts.lock().clone();
    let pauses: Vec<_> = attempts.windows(2).skip(1).map(|two| two[1] - two[0]).collect();
    assert!((40..=140).contains(&pauses.len()), "{}", pauses.len());
    let settled = &pauses[8..];
    assert!(settled.iter().all(|pause| (400..=1600).contains(&pause.as_millis())), "{settled:?}");
    let mut different = settled.to_vec();
    different.dedup();
    assert!(different.len() > settled.len() / 2, "the pauses are jittered");
    service.away.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(inbox.losses(), 1, "the loss is announced");
    let key = change().key;
    let joined =
        || service.lines.lock().values().any(|line| line.channels.contains(&Channel::Key(key.clone())));
    assert!(joined(), "a key joined in the meantime is subscribed");
    drop(interest);
    sleep(Duration::from_secs(1)).await;
    assert!(!joined());
}

#[tokio::test(start_paused = true)]
async fn message_of_newer_protocol_is_reported_as_loss() {
    let service = Arc::<Service>::default();
    let node = node(&service).await;
    let inbox = RecordingInbox::attached(&node);
    service.lines.lock().values().for_each(|line| line.receiver.receive(Bytes::from_static(b"\x02whatever")));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(inbox.losses(), 1);
}
