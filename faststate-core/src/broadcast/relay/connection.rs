//! Keeping a line: probing it, noticing its end, and having another one soon, but not too soon.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Batcher, Channel, Inbox, Receiver, RelayConnection, Shared, Transport, envelope::Envelope,
    transport::News,
};
use crate::BoxError;

/// How long a call of the transport may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the line is probed.
const PROBE: Duration = Duration::from_secs(1);
/// How old the last probe that arrived may be.
const SILENCE: Duration = Duration::from_secs(3);
/// The first pause before connecting again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a line has to hold for the pauses to start over.
const HOLDS: Duration = Duration::from_secs(5);
/// How many channels are opened or closed together.
const TOGETHER: usize = 256;

/// A line that is up.
pub(super) struct Connected {
    outlet: Arc<Batcher>,
    probes: Vec<u32>,
    news: Arc<News>,
}

impl Shared {
    /// A line on which everything is open that is joined here.
    pub(super) async fn connect(self: &Arc<Self>, transport: &dyn Transport) -> Result<Connected, BoxError> {
        let ear = Receiver::new(Arc::clone(self));
        let news = Arc::clone(&ear.news);
        let line = in_time(transport.connect(ear)).await?;
        let probes = line.probes(self.node);
        let mut open = vec![Channel::All];
        open.extend(probes.iter().map(|probe| Channel::Node(self.node, *probe)));
        in_time(line.subscribe(&open)).await?;
        loop {
            let missing = self.interests.missing();
            if missing.is_empty() {
                let outlet = Batcher::new(line);
                *self.outlet.lock() = Some(Arc::clone(&outlet));
                return Ok(Connected { outlet, probes, news });
            }
            for some in missing.chunks(TOGETHER) {
                in_time(line.subscribe(some)).await?;
                self.interests.opened(some);
            }
        }
    }
}

/// Keeps a line for as long as it is not aborted.
pub(super) async fn keep_line(shared: Arc<Shared>, transport: impl Transport, first: Connected) {
    let mut next = Ok(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        let end = match next {
            Ok(connected) => serve(&shared, &connected).await,
            Err(error) => error,
        };
        shared.interests.down();
        shared.close_outlet();
        tracing::warn!(error = &*end as &dyn std::error::Error, "no connection to the other nodes");
        if since.elapsed() > HOLDS {
            pause = FIRST_PAUSE;
        }
        sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        next = shared.connect(&transport).await;
        if next.is_ok() {
            tracing::info!("connected to the other nodes again");
            shared.tell_inbox(Inbox::lost);
        }
    }
}

/// Serves a line until it ends; says why.
async fn serve(shared: &Shared, connected: &Connected) -> BoxError {
    let Connected { outlet, probes, news } = connected;
    let line = &*outlet.line;
    let closed = || BoxError::from("the connection was closed");
    let ended = tokio::select! {
        () = news.cut.notified() => Err(closed()),
        failure = outlet.broken() => Err(failure.unwrap_or_else(closed)),
        ended = follow_interests(shared, line) => ended,
        ended = probe(shared, line, probes, news) => ended,
    };
    let Err(error) = ended;
    error
}

async fn follow_interests(shared: &Shared, line: &dyn RelayConnection) -> Result<Infallible, BoxError> {
    loop {
        shared.interests.changed.notified().await;
        let due = shared.interests.due();
        for some in due.open.chunks(TOGETHER) {
            in_time(line.subscribe(some)).await?;
            shared.interests.opened(some);
        }
        for some in due.close.chunks(TOGETHER) {
            in_time(line.unsubscribe(some)).await?;
        }
    }
}

/// Sends letters to this node itself, and looks whether they arrive.
async fn probe(
    shared: &Shared,
    line: &dyn RelayConnection,
    probes: &[u32],
    news: &News,
) -> Result<Infallible, BoxError> {
    let letter = |probe: &u32| (Channel::Node(shared.node, *probe), Envelope::probe(shared.node, *probe));
    let letters: Vec<_> = probes.iter().map(letter).collect();
    *news.probed.lock() = probes.iter().map(|probe| (*probe, Instant::now())).collect();
    loop {
        in_time(line.send(&letters)).await?;
        sleep(PROBE).await;
        if news.probed.lock().values().any(|at| at.elapsed() > SILENCE) {
            return Err("nothing arrives any more".into());
        }
        if news.illegible.swap(false, Ordering::Relaxed) {
            tracing::warn!("another node speaks a language of another version: the store is read instead");
            shared.tell_inbox(Inbox::lost);
        }
    }
}

pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    timeout(PATIENCE, call).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}
