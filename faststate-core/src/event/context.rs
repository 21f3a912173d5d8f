//! What an event wants done besides changing its state.

use std::{any::TypeId, fmt, future::Future, sync::Arc, time::SystemTime};

use futures::future::BoxFuture;

use super::{Environment, EventId, Reply};
use crate::{Elements, Error, Handle, Key, ReactiveState, Viewer};

/// How many bytes of HTML an event sends to all followers at most.
const MOST_BROADCAST: usize = 256 << 10;

/// Work that runs once the change is saved and committed.
pub(crate) type Background<S> = Box<dyn FnOnce(Handle<S>) -> BoxFuture<'static, ()> + Send>;
/// Work that writes the reply while it goes on.
pub(crate) type Streaming<S> = Box<dyn FnOnce(Handle<S>, Reply) -> BoxFuture<'static, ()> + Send>;

/// What an event's `apply` knows besides the state, and what it wants done once the change is
/// committed.
///
/// Nothing in here happens unless the event is accepted and saved; a repeat of an event that was
/// applied before does none of it again.
pub struct Context<S> {
    key: Key,
    viewer: Viewer,
    id: EventId,
    now: SystemTime,
    environment: Arc<Environment>,
    pub(crate) effects: Effects,
    pub(crate) aftermath: Aftermath<S>,
}

/// The elements that an event sends.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) caller: Vec<Elements>,
    pub(crate) followers: Vec<Elements>,
}

impl Effects {
    /// Whether the elements for followers are within their limit.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bytes: usize = self.followers.iter().map(|elements| elements.html.len()).sum();
        if bytes <= MOST_BROADCAST {
            return Ok(());
        }
        let source = format!("{bytes} bytes, and at most {MOST_BROADCAST}: show what is larger in a view");
        Err(Error::internal("an event broadcasts too much HTML", &source.into()))
    }
}

/// The work that an event leaves behind.
pub(crate) struct Aftermath<S> {
    pub(crate) background: Vec<Background<S>>,
    pub(crate) streaming: Option<Streaming<S>>,
}

impl<S> Aftermath<S> {
    /// How many pieces of work there are.
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
    ) -> Self {
        let aftermath = Aftermath { background: Vec::new(), streaming: None };
        Self { key, viewer, id, now, environment, effects: Effects::default(), aftermath }
    }

    /// The instance that the event changes.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The viewer that sent the event.
    #[must_use]
    pub const fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The event's id: the browser's, or one that the engine minted.
    #[must_use]
    pub const fn event_id(&self) -> &EventId {
        &self.id
    }

    /// When the event arrived: the same however often `apply` runs.
    ///
    /// With the feature `testing`, a test that pauses tokio's time moves this with it.
    #[must_use]
    pub const fn now(&self) -> SystemTime {
        self.now
    }

    /// The resource of type `T` that the builder was given, for work [`after`](Self::after) the commit. `apply`
    /// itself stays pure and does not use it: it may run again after a conflict.
    ///
    /// [`Handle::resource`] gives the same within the work.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.environment.resources().shared(TypeId::of::<T>())?.downcast().ok()
    }

    /// Sends elements to the caller, in the reply. Not ordered with the caller's stream.
    pub fn reply(&mut self, elements: Elements) {
        self.effects.caller.push(elements);
    }

    /// Sends elements to every follower of the state's signals on every node, in the frame of this change, or in one
    /// of their own where the event changes nothing.
    ///
    /// Ephemeral, outside law 4: a follower that joins later, or lagged, does not get them, nor do the followers on
    /// a node that is cut off at the moment.
    ///
    /// # Limits
    /// The HTML of one event's elements has at most 256 KiB. An event that broadcasts more fails and changes
    /// nothing: content of that size belongs into a [`View`](crate::View).
    pub fn broadcast(&mut self, elements: Elements) {
        self.effects.followers.push(elements);
    }

    /// Runs `work` after the commit, detached from the request, with a typed handle to this instance.
    ///
    /// At most once: a crash between the commit and the work's end loses the rest of it. A panic in it
    /// is logged. The number of such tasks is capped per registry; at the cap an event that asks for
    /// one is refused and changes nothing.
    pub fn after<F, W>(&mut self, work: F)
    where
        F: FnOnce(Handle<S>) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.aftermath.background.push(Box::new(move |handle| Box::pin(work(handle))));
    }

    /// Answers with a stream: `work` runs after the commit and writes to the caller's reply until it
    /// returns. After the caller has disconnected, each write returns an error.
    ///
    /// The last call counts. Capped like [`after`](Self::after).
    pub fn stream<F, W>(&mut self, work: F)
    where
        F: FnOnce(Handle<S>, Reply) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.aftermath.streaming = Some(Box::new(move |handle, reply| Box::pin(work(handle, reply))));
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("key", &self.key).field("id", &self.id).finish_non_exhaustive()
    }
}
