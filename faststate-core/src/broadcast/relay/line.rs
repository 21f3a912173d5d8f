//! Keeping a line: probing it, noticing its end, and having another one soon, but not too soon.

use std::{
    convert::Infallible,
    future::{Future, pending},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{Channel, Ear, Inbox, Line, Shared, Transport, letter::Letter, transport::News};
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
/// How many letters are sent together.
const TOGETHER: usize = 256;

/// A letter on its way, and who waits for it to be sent.
pub(super) struct Outgoing {
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) sent: oneshot::Sender<()>,
}

/// A line that is up.
pub(super) struct Connected {
    line: Box<dyn Line>,
    probes: Vec<u32>,
    news: Arc<News>,
}

impl Shared {
    /// A line on which everything is open that is joined here.
    pub(super) async fn connect(self: &Arc<Self>, transport: &dyn Transport) -> Result<Connected, BoxError> {
        let ear = Ear::new(Arc::clone(self));
        let news = Arc::clone(&ear.news);
        let line = in_time(transport.connect(ear)).await?;
        let probes = line.probes(self.node);
        let mut open = vec![Channel::All];
        open.extend(probes.iter().map(|probe| Channel::Node(self.node, *probe)));
        in_time(line.open(&open)).await?;
        loop {
            let missing = self.interests.missing();
            if missing.is_empty() {
                return Ok(Connected { line, probes, news });
            }
            for some in missing.chunks(TOGETHER) {
                in_time(line.open(some)).await?;
                self.interests.opened(some);
            }
        }
    }
}

/// Keeps a line for as long as it is not aborted.
pub(super) async fn keep_line(
    shared: Arc<Shared>,
    transport: impl Transport,
    first: Connected,
    mut letters: mpsc::Receiver<Outgoing>,
) {
    let mut next = Ok(first);
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        let end = match next {
            Ok(connected) => serve(&shared, &connected, &mut letters).await,
            Err(error) => error,
        };
        shared.interests.down();
        // Whoever waits with a letter for the line that is gone is told so.
        while letters.try_recv().is_ok() {}
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
async fn serve(shared: &Shared, connected: &Connected, letters: &mut mpsc::Receiver<Outgoing>) -> BoxError {
    let Connected { line, probes, news } = connected;
    let ended = tokio::select! {
        () = news.cut.notified() => Err("the connection was closed".into()),
        ended = send(&**line, letters) => ended,
        ended = follow_interests(shared, &**line) => ended,
        ended = probe(shared, &**line, probes, news) => ended,
    };
    let Err(error) = ended;
    error
}

async fn send(line: &dyn Line, letters: &mut mpsc::Receiver<Outgoing>) -> Result<Infallible, BoxError> {
    let mut waiting = Vec::new();
    loop {
        if letters.recv_many(&mut waiting, TOGETHER).await == 0 {
            // The relay is gone, and this is about to be aborted.
            pending::<()>().await;
        }
        // What nobody waits for any more is published again by whoever gave up, or has been replaced.
        let wanted = waiting.drain(..).filter(|letter| !letter.sent.is_closed());
        let (letters, sent): (Vec<_>, Vec<_>) =
            wanted.map(|Outgoing { channel, payload, sent }| ((channel, payload), sent)).unzip();
        if !letters.is_empty() {
            in_time(line.send(&letters)).await?;
        }
        sent.into_iter().for_each(|sent| _ = sent.send(()));
    }
}

async fn follow_interests(shared: &Shared, line: &dyn Line) -> Result<Infallible, BoxError> {
    loop {
        shared.interests.changed.notified().await;
        let due = shared.interests.due();
        for some in due.open.chunks(TOGETHER) {
            in_time(line.open(some)).await?;
            shared.interests.opened(some);
        }
        for some in due.close.chunks(TOGETHER) {
            in_time(line.close(some)).await?;
        }
    }
}

/// Sends letters to this node itself, and looks whether they arrive.
async fn probe(
    shared: &Shared,
    line: &dyn Line,
    probes: &[u32],
    news: &News,
) -> Result<Infallible, BoxError> {
    let letter = |probe: &u32| (Channel::Node(shared.node, *probe), Letter::probe(shared.node, *probe));
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

async fn in_time<T>(call: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    timeout(PATIENCE, call).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}
