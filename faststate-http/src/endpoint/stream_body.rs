//! The body of a stream: the frames of its topics, heartbeats, access rechecks, and its end.

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
    internal::{Follower, TopicName},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::{
    connections::StreamPermit,
    head_copy::HeadCopy,
    identity::{IDENTITY_TIMEOUT, IdentityFuture, IdentitySource},
    nest,
    problem::{Problem, ProblemView},
};

/// The cursor of a topic that the viewer may not follow. The page sends it when it reconnects.
pub(super) const GONE: &str = "gone";

/// The time within which every stream rechecks its access when revocations may have been missed.
const REQUESTED_RECHECK_WINDOW: Duration = Duration::from_secs(2);

/// The inputs for rechecking a stream's access while it is open.
pub(super) struct AccessRecheck {
    pub(super) registry: Arc<dyn Registry>,
    /// The identity closure and a copy of the request's head, if there is a closure.
    pub(super) identify: Option<(IdentitySource, Box<HeadCopy>)>,
    pub(super) session: SessionId,
    pub(super) every: Duration,
    pub(super) view: Arc<dyn ProblemView>,
}

/// A topic that a stream follows.
pub(super) struct FollowedTopic {
    pub(super) name: TopicName,
    pub(super) key: Key,
    pub(super) follower: Follower,
}

/// The body of a stream.
///
/// It has no task, no channel and no queue: one waker and one timer serve all topics, and the unsent changes of a topic
/// are represented by its cursor.
pub(super) struct StreamBody {
    topics: Vec<FollowedTopic>,
    /// Whether a block with only `id:` follows the events.
    ids: bool,
    /// Whether the client understands patches.
    datastar: bool,
    /// The bytes to send before the next frames.
    first: Bytes,
    heartbeat: Option<Duration>,
    last_write: Instant,
    recheck: AccessRecheck,
    recheck_at: Instant,
    /// The running identity closure and its deadline. The mutex is never locked: it only makes the body `Sync`, which
    /// some adapters require.
    identifying: Option<(Mutex<IdentityFuture>, Instant)>,
    /// Whether sending waits for the next recheck.
    held: bool,
    /// The staleness that the client has been sent.
    stale: bool,
    end_at: Option<Instant>,
    ended: bool,
    timer: Pin<Box<Sleep>>,
    /// The last field, so that the topics are dropped before the stream counts as ended.
    permit: StreamPermit,
}

impl StreamBody {
    pub(super) fn new(
        topics: Vec<FollowedTopic>,
        first: Bytes,
        datastar: bool,
        heartbeat: Option<Duration>,
        recheck: AccessRecheck,
        permit: StreamPermit,
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
            last_write: now,
            recheck,
            recheck_at,
            identifying: None,
            held: false,
            stale: false,
            end_at: None,
            timer: Box::pin(tokio::time::sleep_until(
                heartbeat.map_or(recheck_at, |h| recheck_at.min(now + h)),
            )),
            permit,
        })
    }

    /// Returns the names of the topics, for the log.
    pub(super) fn topics(&self) -> Vec<&TopicName> {
        self.topics.iter().map(|topic| &topic.name).collect()
    }

    /// Sends nothing until access has been rechecked. For a stream that was opening while others were closed.
    pub(super) fn hold_until_rechecked(&mut self) {
        self.held = true;
        self.recheck_at = Instant::now();
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready((!self.first.is_empty()).then(|| std::mem::take(&mut self.first)));
        }
        // Before the flags are read: a flag that is set later wakes the task.
        self.permit.register_waker(cx.waker());
        let now = Instant::now();
        if self.permit.is_closing() {
            return self.close();
        }
        if self.end_at.is_none() {
            self.end_at = self.permit.drain_delay().map(|delay| now + delay);
        }
        if self.end_at.is_some_and(|at| at <= now) {
            return self.end(None);
        }
        if self.permit.take_recheck_request() {
            let delay = REQUESTED_RECHECK_WINDOW.mul_f64(rand::random());
            self.recheck_at = self.recheck_at.min(now + delay);
        }
        let mut piece = std::mem::take(&mut self.first);
        match self.poll_recheck(cx, now) {
            RecheckOutcome::Unchanged => {}
            RecheckOutcome::Refused(refusal) => piece = concat(piece, refusal),
            RecheckOutcome::Failed => return self.end(None),
        }
        if self.topics.is_empty() {
            return self.end(Some(piece));
        }
        if self.held {
            self.first = piece;
            self.arm_timer(cx);
            return Poll::Pending;
        }
        for topic in &mut self.topics {
            match topic.follower.poll_frames(cx, self.ids) {
                Poll::Ready(Ok(frames)) => piece = concat(piece, frames),
                Poll::Ready(Err(_)) => return self.end(Some(piece)),
                Poll::Pending => {}
            }
        }
        let is_stale = self.topics.iter().any(|topic| topic.follower.is_stale());
        if std::mem::replace(&mut self.stale, is_stale) != is_stale {
            piece = concat(piece, stale_frame(is_stale));
        }
        if piece.is_empty() {
            if self.heartbeat.is_none_or(|heartbeat| now < self.last_write + heartbeat) {
                self.arm_timer(cx);
                return Poll::Pending;
            }
            piece = PING;
        }
        self.last_write = now;
        self.permit.count_write(piece.len());
        Poll::Ready(Some(piece))
    }

    /// Sets the timer to the next deadline. A timer that would fire earlier is left as it is, which avoids a reset at
    /// every write.
    fn arm_timer(&mut self, cx: &mut Context<'_>) {
        let identity = self.identifying.as_ref().map(|(_, deadline)| *deadline);
        let ping = self.heartbeat.map(|heartbeat| self.last_write + heartbeat);
        let recheck = identity.is_none().then_some(self.recheck_at);
        let Some(next) = [ping, recheck, identity, self.end_at].into_iter().flatten().min() else { return };
        if self.timer.deadline() > next || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if next <= Instant::now() {
                // The deadline has passed in the meantime: poll again at once.
                cx.waker().wake_by_ref();
                return;
            }
            self.timer.as_mut().reset(next);
        }
    }

    /// Identifies the viewer again when a recheck is due, and drops topics that it may no longer follow (law 8).
    fn poll_recheck(&mut self, cx: &mut Context<'_>, now: Instant) -> RecheckOutcome {
        if self.identifying.is_none() && self.recheck_at <= now {
            let Some((identify, head)) = &self.recheck.identify else {
                return self.drop_forbidden(now, &Viewer::session(self.recheck.session));
            };
            let identity = identify.identify(&head.parts());
            self.identifying = Some((Mutex::new(identity), now + IDENTITY_TIMEOUT));
        }
        let Some((identity, deadline)) = &mut self.identifying else { return RecheckOutcome::Unchanged };
        match identity.get_mut().as_mut().poll(cx) {
            Poll::Ready(Err(error)) => {
                tracing::warn!(%error, "the identity closure failed: ending the stream, the client reconnects");
                RecheckOutcome::Failed
            }
            Poll::Ready(Ok(identity)) => {
                self.identifying = None;
                let viewer = identity.viewer(self.recheck.session);
                self.permit.set_viewer(viewer.clone());
                self.drop_forbidden(now, &viewer)
            }
            Poll::Pending if *deadline <= now => RecheckOutcome::Failed,
            Poll::Pending => RecheckOutcome::Unchanged,
        }
    }

    /// Drops the topics that the viewer may no longer follow.
    fn drop_forbidden(&mut self, now: Instant, viewer: &Viewer) -> RecheckOutcome {
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
            return RecheckOutcome::Unchanged;
        }
        let frame = if self.datastar { gone_frame(&refused, &*self.recheck.view) } else { Bytes::new() };
        RecheckOutcome::Refused(frame)
    }

    /// Ends a stream that was closed. The page reconnects at once with its current identity, and the new stream carries
    /// the notice for refused topics.
    fn close(&mut self) -> Poll<Option<Bytes>> {
        let soon = Bytes::from(format!("retry: {}\n\n", rand::random_range(50..=250)));
        let last = concat(std::mem::take(&mut self.first), soon);
        self.end(Some(last))
    }

    fn end(&mut self, last: Option<Bytes>) -> Poll<Option<Bytes>> {
        self.topics.clear();
        self.ended = true;
        Poll::Ready(last.filter(|bytes| !bytes.is_empty()))
    }
}

enum RecheckOutcome {
    Unchanged,
    /// Topics were dropped; the bytes inform the client.
    Refused(Bytes),
    /// The identity closure failed or timed out.
    Failed,
}

/// Returns the events that mark topics as gone, so that the page does not request them again, and show a notice.
pub(super) fn gone_frame(topics: &[TopicName], view: &dyn ProblemView) -> Bytes {
    let mut signals = Value::Object(serde_json::Map::new());
    for topic in topics {
        let mut path = cursor_path(topic);
        nest::merge(&mut signals, nest::object(&path, GONE.into()));
        // The same signal for a deleted record and for revoked access (law 8).
        if topic.id.is_some() && topic.view.is_none() {
            path.pop();
            path.push("_gone".to_owned());
            nest::merge(&mut signals, nest::object(&path, true.into()));
        }
    }
    concat(frame::signals(signals.to_string().as_bytes()), Problem::unknown().frames(view))
}

/// Returns the event that sets whether the page's content may be stale because a store fails.
pub(super) fn stale_frame(stale: bool) -> Bytes {
    frame::signals(if stale { br#"{"_stale":true}"# } else { br#"{"_stale":false}"# })
}

/// Returns the path of a topic's cursor among the signals.
pub(super) fn cursor_path(topic: &TopicName) -> Vec<String> {
    let mut path = vec![topic.state.clone()];
    path.extend(topic.id.as_deref().map(faststate_core::internal::segment));
    path.extend(topic.view.as_ref().map(|view| format!("_{view}")));
    path.push("_v".to_owned());
    path
}

/// Concatenates two pieces. Copies only if neither is empty.
fn concat(first: Bytes, second: Bytes) -> Bytes {
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

/// Returns 80 to 100 % of the duration, so that streams do not recheck in step.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(rand::random_range(0.8..1.0))
}
