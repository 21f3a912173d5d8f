//! The context in which an event is applied: the facts that it may use, and the effects that it requests.

use std::{any::TypeId, fmt, future::Future, sync::Arc, time::SystemTime};

use futures::future::BoxFuture;

use super::{Environment, EventId, Handle, Reply};
use crate::{Elements, Error, Key, ReactiveState, Viewer};

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
    ) -> Self {
        let aftermath = Aftermath { background: Vec::new(), streaming: None };
        Self { key, viewer, id, now, environment, effects: Effects::default(), aftermath }
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

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("key", &self.key).field("id", &self.id).finish_non_exhaustive()
    }
}
