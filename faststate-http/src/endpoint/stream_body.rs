//! The body of a stream: what its topics have to tell, a ping in silence, and an end.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use faststate_core::{
    Key, Registry, SessionId, Viewer,
    internal::frame::{self, PING},
    registry::TopicName,
    topics::Follower,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::{
    Problem, ProblemView,
    connections::Permit,
    head_copy::HeadCopy,
    identity::{Asking, Identify, PATIENCE},
    nest,
};

/// The cursor of a topic that this page may not follow: it reconnects, and says so.
pub(super) const GONE: &str = "gone";

/// Within how long every stream's access is checked when revocations may have been missed.
const DOUBT: Duration = Duration::from_secs(2);

/// What a stream asks again while it is open.
pub(super) struct Recheck {
    pub(super) registry: Arc<dyn Registry>,
    /// The closure and a copy of the request's head, kept only where there is a closure.
    pub(super) identify: Option<(Identify, Box<HeadCopy>)>,
    pub(super) session: SessionId,
    pub(super) every: Duration,
    pub(super) view: Arc<dyn ProblemView>,
}

/// One topic of a stream.
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) key: Key,
    pub(super) follower: Follower,
}

/// The body of a stream. One waker and one timer serve all its topics; it has no task, no channel and no
/// queue: what it has not sent is a cursor per topic.
pub(super) struct Following {
    topics: Vec<Topic>,
    /// Whether a block with only `id:` follows the events.
    ids: bool,
    /// Whether the client understands patches.
    datastar: bool,
    first: Bytes,
    heartbeat: Option<Duration>,
    spoke: Instant,
    recheck: Recheck,
    recheck_at: Instant,
    /// The application's answer that is awaited, and until when. The mutex is never locked: it makes the
    /// body `Sync`, as some adapters want it.
    asked: Option<(Mutex<Asking>, Instant)>,
    /// Nothing is sent before access has been checked once more.
    held: bool,
    /// Whether the client was told that what it sees may be stale.
    stale: bool,
    end_at: Option<Instant>,
    ended: bool,
    timer: Pin<Box<Sleep>>,
    /// Last, so that the topics are left before the stream counts as ended.
    permit: Permit,
}

impl Following {
    pub(super) fn new(
        topics: Vec<Topic>,
        first: Bytes,
        datastar: bool,
        heartbeat: Option<Duration>,
        recheck: Recheck,
        permit: Permit,
    ) -> Box<Self> {
        let now = Instant::now();
        let recheck_at = now + jittered(recheck.every);
        Box::new(Self {
            ids: topics.len() == 1 && !datastar,
            ended: topics.is_empty(),
            topics,
            datastar,
            first,
            heartbeat,
            spoke: now,
            recheck,
            recheck_at,
            asked: None,
            held: false,
            stale: false,
            end_at: None,
            timer: Box::pin(tokio::time::sleep_until(
                heartbeat.map_or(recheck_at, |h| recheck_at.min(now + h)),
            )),
            permit,
        })
    }

    /// What it follows, for the log.
    pub(super) fn topics(&self) -> Vec<&TopicName> {
        self.topics.iter().map(|topic| &topic.name).collect()
    }

    /// Checks access once more before anything is sent: streams were closed while this one opened.
    pub(super) fn hold(&mut self) {
        self.held = true;
        self.recheck_at = Instant::now();
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready((!self.first.is_empty()).then(|| std::mem::take(&mut self.first)));
        }
        self.permit.listen(cx.waker());
        let now = Instant::now();
        if self.permit.is_closing() {
            return self.close();
        }
        if self.end_at.is_none() {
            self.end_at = self.permit.time_left().map(|left| now + left);
        }
        if self.end_at.is_some_and(|at| at <= now) {
            return self.end(None);
        }
        if self.permit.takes_doubt() {
            self.recheck_at = self.recheck_at.min(now + DOUBT.mul_f64(rand::random()));
        }
        let mut news = std::mem::take(&mut self.first);
        match self.recheck(cx, now) {
            Check::Unchanged => {}
            Check::Refused(refusal) => news = joined(news, refusal),
            Check::Unanswered => return self.end(None),
        }
        if self.topics.is_empty() {
            return self.end(Some(news));
        }
        if self.held {
            self.first = news;
            self.arm(cx);
            return Poll::Pending;
        }
        for topic in &mut self.topics {
            match topic.follower.poll_frames(cx, self.ids) {
                Poll::Ready(Ok(frames)) => news = joined(news, frames),
                Poll::Ready(Err(_)) => return self.end(Some(news)),
                Poll::Pending => {}
            }
        }
        let is_stale = self.topics.iter().any(|topic| topic.follower.is_stale());
        if std::mem::replace(&mut self.stale, is_stale) != is_stale {
            news = joined(news, stale(is_stale));
        }
        if news.is_empty() {
            if self.heartbeat.is_none_or(|heartbeat| now < self.spoke + heartbeat) {
                self.arm(cx);
                return Poll::Pending;
            }
            news = PING;
        }
        self.spoke = now;
        self.permit.sends(news.len());
        Poll::Ready(Some(news))
    }

    /// Sets the timer to what comes next. A stream that spoke keeps its earlier alarm until it rings.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let asked = self.asked.as_ref().map(|(_, until)| *until);
        let ping = self.heartbeat.map(|heartbeat| self.spoke + heartbeat);
        let check = asked.is_none().then_some(self.recheck_at);
        let Some(next) = [ping, check, asked, self.end_at].into_iter().flatten().min() else { return };
        if self.timer.deadline() > next || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if next <= Instant::now() {
                // It became due meanwhile: look at once.
                cx.waker().wake_by_ref();
                return;
            }
            self.timer.as_mut().reset(next);
        }
    }

    /// Asks who the viewer is by now, and whether the topics still are theirs to see (law 8).
    fn recheck(&mut self, cx: &mut Context<'_>, now: Instant) -> Check {
        if self.asked.is_none() && self.recheck_at <= now {
            let Some((identify, head)) = &self.recheck.identify else {
                return self.judge(now, &Viewer::session(self.recheck.session));
            };
            self.asked = Some((Mutex::new(identify.ask(&head.parts())), now + PATIENCE));
        }
        let Some((answer, until)) = &mut self.asked else { return Check::Unchanged };
        match answer.get_mut().as_mut().poll(cx) {
            Poll::Ready(Err(error)) => {
                tracing::warn!(%error, "the identity closure failed: the stream ends, and comes back");
                Check::Unanswered
            }
            Poll::Ready(Ok(identity)) => {
                self.asked = None;
                let viewer = identity.viewer(self.recheck.session);
                self.permit.is(viewer.clone());
                self.judge(now, &viewer)
            }
            Poll::Pending if *until <= now => Check::Unanswered,
            Poll::Pending => Check::Unchanged,
        }
    }

    /// Leaves the topics that the viewer may no longer see.
    fn judge(&mut self, now: Instant, viewer: &Viewer) -> Check {
        self.recheck_at = now + jittered(self.recheck.every);
        self.held = false;
        let registry = &self.recheck.registry;
        let mut refused = Vec::new();
        self.topics.retain(|topic| {
            let key = registry.key(&topic.name.state, viewer, topic.name.id.as_deref());
            let allowed = key.is_ok_and(|key| key == topic.key) && registry.allows(&topic.key, viewer);
            if !allowed {
                refused.push(topic.name.clone());
            }
            allowed
        });
        if refused.is_empty() {
            return Check::Unchanged;
        }
        Check::Refused(self.tell(&refused))
    }

    /// Says that the topics are gone, to who understands it.
    fn tell(&self, refused: &[TopicName]) -> Bytes {
        if self.datastar { gone(refused, &*self.recheck.view) } else { Bytes::new() }
    }

    /// The viewer's streams were closed: the page comes back at once, as whoever it is by then, follows what
    /// it may, and is told what it may not.
    fn close(&mut self) -> Poll<Option<Bytes>> {
        let soon = Bytes::from(format!("retry: {}\n\n", rand::random_range(50..=250)));
        let last = joined(std::mem::take(&mut self.first), soon);
        self.end(Some(last))
    }

    fn end(&mut self, last: Option<Bytes>) -> Poll<Option<Bytes>> {
        self.topics.clear();
        self.ended = true;
        Poll::Ready(last.filter(|bytes| !bytes.is_empty()))
    }
}

enum Check {
    Unchanged,
    Refused(Bytes),
    Unanswered,
}

/// The events that tell a page what it may not follow, so that it does not ask for it again.
pub(super) fn gone(topics: &[TopicName], view: &dyn ProblemView) -> Bytes {
    let mut signals = Value::Object(serde_json::Map::new());
    for topic in topics {
        let mut path = cursor_path(topic);
        nest::merge(&mut signals, nest::object(&path, GONE.into()));
        // A page cannot know whether a record was deleted or its access was revoked (law 8).
        if topic.id.is_some() && topic.view.is_none() {
            path.pop();
            path.push("_gone".to_owned());
            nest::merge(&mut signals, nest::object(&path, true.into()));
        }
    }
    joined(frame::signals(signals.to_string().as_bytes()), Problem::unknown().frames(view))
}

/// The event that tells a page whether what it shows may be stale, because a store does not answer.
pub(super) fn stale(stale: bool) -> Bytes {
    frame::signals(if stale { br#"{"_stale":true}"# } else { br#"{"_stale":false}"# })
}

/// Where a topic's cursor is among the signals.
pub(super) fn cursor_path(topic: &TopicName) -> Vec<String> {
    let mut path = vec![topic.state.clone()];
    path.extend(topic.id.as_deref().map(faststate_core::internal::segment));
    path.extend(topic.view.as_ref().map(|view| format!("_{view}")));
    path.push("_v".to_owned());
    path
}

/// One piece: shared as it is where there is only one.
fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        (false, false) => {
            let mut both = BytesMut::with_capacity(first.len() + second.len());
            both.extend_from_slice(&first);
            both.extend_from_slice(&second);
            both.freeze()
        }
    }
}

/// At most this long, and not all at the same moment.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(rand::random_range(0.8..1.0))
}
