//! The context in which an event is applied: the facts that it may use, and the effects that it requests.

use std::{any::TypeId, fmt, future::Future, sync::Arc, time::SystemTime};

use futures::future::BoxFuture;

use super::{
    Address, Cause, Environment, Event, EventId, Handle, Reply, SentMessage,
    message::{OutboxDraft, OutboxEdit},
};
use crate::{
    Elements, Error, Job, Key, ReactiveState, Rejection, Viewer, registry::messages::outbox::Outbox,
};

/// The most HTML that one event may send to all followers, in bytes.
const MAX_BROADCAST_BYTES: usize = 256 << 10;

/// Work that runs after the change is saved and committed.
pub(crate) type Background<S> = Box<dyn FnOnce(Handle<S>) -> BoxFuture<'static, ()> + Send>;
/// Work that writes a streamed reply.
pub(crate) type Streaming<S> = Box<dyn FnOnce(Handle<S>, Reply) -> BoxFuture<'static, ()> + Send>;

/// The context of an event's `apply`: facts besides the state, and requests for effects after the commit.
///
/// The effects happen only if the event is accepted and saved. A repeat of an event that was applied before does not
/// cause them again.
pub struct Context<S> {
    key: Key,
    viewer: Viewer,
    id: EventId,
    now: SystemTime,
    environment: Arc<Environment>,
    pub(crate) effects: Effects,
    pub(crate) aftermath: Aftermath<S>,
    /// The messages, timers and jobs before the event.
    outbox: Option<Arc<Outbox>>,
    pub(crate) draft: OutboxDraft,
}

/// What an event had requested before an event that follows a message was applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowUpMark {
    edits: usize,
    caller: usize,
    followers: usize,
    background: usize,
    is_streaming: bool,
}

/// The elements that an event sends to its caller and to the followers.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) caller: Vec<Elements>,
    pub(crate) followers: Vec<Elements>,
}

impl Effects {
    /// Checks the size of the elements for followers.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bytes: usize = self.followers.iter().map(|elements| elements.html.len()).sum();
        if bytes <= MAX_BROADCAST_BYTES {
            return Ok(());
        }
        let source =
            format!("{bytes} bytes, the limit is {MAX_BROADCAST_BYTES}: show larger content in a view");
        Err(Error::internal("an event broadcasts too much HTML", &source.into()))
    }
}

/// The work that an event requests for after its commit.
pub(crate) struct Aftermath<S> {
    pub(crate) background: Vec<Background<S>>,
    pub(crate) streaming: Option<Streaming<S>>,
}

impl<S> Aftermath<S> {
    /// The number of pieces of work.
    pub(crate) fn pieces(&self) -> usize {
        self.background.len() + usize::from(self.streaming.is_some())
    }
}

impl<S: ReactiveState> Context<S> {
    pub(crate) fn new(
        key: Key,
        viewer: Viewer,
        id: EventId,
        now: SystemTime,
        environment: Arc<Environment>,
        cause: Option<Arc<Cause>>,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        let aftermath = Aftermath { background: Vec::new(), streaming: None };
        Self {
            key,
            viewer,
            id,
            now,
            environment,
            effects: Effects::default(),
            aftermath,
            outbox,
            draft: OutboxDraft { cause, ..OutboxDraft::default() },
        }
    }

    /// Returns the key of the instance that the event changes.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the viewer that sent the event.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// Returns the event's id, which the browser or the engine has generated.
    #[must_use]
    pub const fn event_id(&self) -> &EventId {
        &self.id
    }

    /// Returns the time at which the event arrived. It is the same each time `apply` runs.
    ///
    /// In a test that pauses tokio's time, it follows tokio's time if the test called `follow_tokio_time`.
    #[must_use]
    pub const fn now(&self) -> SystemTime {
        self.now
    }

    /// Returns the resource of type `T` that was passed to the builder, for work [`after`](Self::after) the commit.
    ///
    /// `apply` itself must stay pure and must not use it, because it may run again after a conflict. Inside the work,
    /// [`Handle::resource`] returns the same value.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.environment.resources().shared(TypeId::of::<T>())?.downcast().ok()
    }

    /// Sends an event to another instance, or to this one, after the commit (law 16).
    ///
    /// The message is saved with this change or not at all, and is applied exactly once at its target, through any crash.
    /// Messages from one instance to one target are applied in the order in which they were sent. The target's
    /// `authorize` sees the [application](Viewer::application), because this event's viewer was checked here.
    ///
    /// Attach events of this state to the answer: [`then`](SentMessage::then) if the target accepts,
    /// [`or_else`](SentMessage::or_else) if it rejects.
    ///
    /// # Limits
    /// 256 messages, timers and jobs per event, 64 KiB of JSON per message, 4,096 unfinished ones per instance. An event
    /// that exceeds a limit fails and changes nothing. So does one whose state does not declare
    /// [`sends_messages`](crate::StateConfig::sends_messages), or whose target is not registered.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an event is handed over, as in other calls that send it"
    )]
    pub fn send<E: Event>(&mut self, to: Address<E::State>, event: E) -> SentMessage<'_, S> {
        self.draft.send(to.key(), &event);
        SentMessage::new(&mut self.draft)
    }

    /// Applies an event to this instance at a time of the store's clock, at most 1 s late while any node runs (law 16).
    ///
    /// A timer with the same name is replaced. A timer that became due while no node was running fires when one starts.
    /// If the event is rejected then, the timer ends without a change.
    ///
    /// # Limits
    /// Those of [`send`](Self::send). A name has 1 to 64 bytes.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an event is handed over, as in other calls that send it"
    )]
    pub fn schedule(&mut self, name: impl Into<String>, at: SystemTime, event: impl Event<State = S>) {
        self.draft.push(OutboxEdit::schedule(name.into(), at, &event));
    }

    /// Cancels the timer with this name, if there is one.
    pub fn cancel(&mut self, name: impl Into<String>) {
        self.draft.push(Ok(OutboxEdit::Cancel { name: name.into() }));
    }

    /// Runs a job after the commit, at least once (law 16).
    ///
    /// # Limits
    /// Those of [`send`](Self::send).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an event is handed over, as in other calls that send it"
    )]
    pub fn run<J: Job>(&mut self, job: J) {
        self.draft.push(OutboxEdit::run(J::NAME, &job));
    }

    /// Returns the instance and the viewer that sent the message, if a message carries this event or it follows one.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.draft.cause.as_deref()
    }

    /// Returns the target's rejection, in an event that was attached with [`SentMessage::or_else`].
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.draft.cause.as_ref()?.rejection.as_ref()
    }

    /// Returns the number of messages and jobs of this instance that were not finished before this event.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.waiting())
    }

    /// Sends elements to the caller, in the reply. Their order relative to the caller's stream is not defined.
    pub fn reply(&mut self, elements: Elements) {
        self.effects.caller.push(elements);
    }

    /// Sends elements to every follower of the state's signals, on every node.
    ///
    /// They are part of this change's frame, or have a frame of their own if the event changes nothing. They are
    /// ephemeral and not covered by law 4: a follower that joins later or lags behind does not receive them, and neither
    /// do the followers on a node that is disconnected at the moment.
    ///
    /// # Limits
    /// The HTML of one event's elements has at most 256 KiB. An event that broadcasts more fails and changes nothing.
    /// Put larger content into a [`View`](crate::View).
    pub fn broadcast(&mut self, elements: Elements) {
        self.effects.followers.push(elements);
    }

    /// Runs `work` after the commit, detached from the request, with a typed handle to this instance.
    ///
    /// It runs at most once: a crash between the commit and the end of the work loses the rest of it. A panic is logged.
    ///
    /// # Limits
    /// The number of such tasks per registry is limited
    /// ([`RegistryBuilder::max_background`](crate::registry::RegistryBuilder::max_background)). At the limit, an event
    /// that requests one is refused and changes nothing.
    pub fn after<F, W>(&mut self, work: F)
    where
        F: FnOnce(Handle<S>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.aftermath.background.push(Box::new(move |handle| Box::pin(work(handle))));
    }

    /// Streams the reply: `work` runs after the commit and writes to the caller's reply until it returns.
    ///
    /// After the caller has disconnected, each write returns an error. A second call replaces the first one. The limit is
    /// that of [`after`](Self::after).
    pub fn stream<F, W>(&mut self, work: F)
    where
        F: FnOnce(Handle<S>, Reply) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.aftermath.streaming = Some(Box::new(move |handle, reply| Box::pin(work(handle, reply))));
    }
}

impl<S> Context<S> {
    /// Returns the messages, timers and jobs before the event.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_deref()
    }

    pub(crate) fn edit_outbox(&mut self, edit: OutboxEdit) {
        self.draft.push(Ok(edit));
    }

    /// Replaces the last edit.
    pub(crate) fn replace_edit(&mut self, edit: OutboxEdit) {
        self.draft.edits.pop();
        self.edit_outbox(edit);
    }

    /// Begins an event that follows a message with this origin.
    pub(crate) fn begin_follow_up(&mut self, cause: Arc<Cause>) -> FollowUpMark {
        self.draft.cause = Some(cause);
        FollowUpMark {
            edits: self.draft.edits.len(),
            caller: self.effects.caller.len(),
            followers: self.effects.followers.len(),
            background: self.aftermath.background.len(),
            is_streaming: self.aftermath.streaming.is_some(),
        }
    }

    pub(crate) fn end_follow_up(&mut self) {
        self.draft.cause = None;
    }

    /// Drops what the event has requested since the mark.
    pub(crate) fn undo_follow_up(&mut self, mark: FollowUpMark) {
        self.draft.cause = None;
        self.draft.edits.truncate(mark.edits);
        self.effects.caller.truncate(mark.caller);
        self.effects.followers.truncate(mark.followers);
        self.aftermath.background.truncate(mark.background);
        self.aftermath.streaming.take_if(|_| !mark.is_streaming);
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("key", &self.key).field("id", &self.id).finish_non_exhaustive()
    }
}
