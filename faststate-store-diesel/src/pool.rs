//! The connection pool of a server.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{builder::StoreSettings, error::BackendError};

type ConnectFuture<C> = Pin<Box<dyn Future<Output = Result<C, BackendError>> + Send>>;

/// A pool that sends no query to check whether a connection is alive. A driver that notices the end of its connection
/// reports it through [`Link::is_closed`]; otherwise the next call fails, and then all connections of the same generation
/// are replaced. So they are after a call that was given up because the server did not answer for a while: if a machine
/// vanished, each of its connections would otherwise cost another call its whole deadline.
///
/// A connection returns to the pool only if its last call was completed, because the remaining answers of a dropped or
/// failed call are unknown.
pub(crate) struct Pool<C: Link> {
    pool: bb8::Pool<Manager<C>>,
    shared: Arc<PoolState>,
    within: Duration,
}

#[derive(Default)]
struct PoolState {
    /// The current generation; connections of older generations are replaced. `Relaxed` is enough, because no other
    /// data depends on the value.
    generation: AtomicU64,
    /// The error of the last attempt to connect, if it failed.
    failure: Mutex<Option<BackendError>>,
}

struct Manager<C> {
    connect: Box<dyn Fn() -> ConnectFuture<C> + Send + Sync>,
    /// Deadline of an attempt, because one that hangs would occupy a place in the pool.
    within: Duration,
    shared: Arc<PoolState>,
}

struct ManagedConnection<C> {
    inner: C,
    generation: u64,
    /// Whether a call was begun and not completed.
    busy: bool,
}

/// A driver's connection.
pub(crate) trait Link: Send + 'static {
    /// Returns whether the driver knows that the connection has ended. Sends nothing.
    fn is_closed(&mut self) -> bool;
}

/// A connection for one call.
pub(crate) struct Lease<'a, C: Link> {
    connection: bb8::PooledConnection<'a, Manager<C>>,
    shared: &'a PoolState,
    /// When the server counts as silent, if the call is dropped.
    silent_at: Instant,
}

impl<C: Link> Pool<C> {
    pub(crate) fn new(
        settings: StoreSettings,
        connect: impl Fn() -> ConnectFuture<C> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(PoolState::default());
        // A little less than the deadline of a call, so that the call can still return the reason.
        let within = settings.timeout.mul_f32(0.95);
        let manager = Manager { connect: Box::new(connect), within, shared: Arc::clone(&shared) };
        let pool = bb8::Pool::builder()
            .max_size(settings.connections)
            .connection_timeout(within)
            .build_unchecked(manager);
        Self { pool, shared, within }
    }

    /// Takes a connection for one call, which must finish with [`end`](Lease::end).
    pub(crate) async fn lease(&self) -> Result<Lease<'_, C>, BackendError> {
        let mut connection = self.pool.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => {
                let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                BackendError::NoConnection { within: self.within, source: failure.map(Arc::new) }
            }
        })?;
        connection.busy = true;
        Ok(Lease { connection, shared: &self.shared, silent_at: Instant::now() + self.within / 2 })
    }
}

impl PoolState {
    /// Replaces all connections of a generation, each before its next call.
    fn retire(&self, generation: u64) {
        let order = Ordering::Relaxed;
        // Fails if another call has retired the generation.
        let _ = self.generation.compare_exchange(generation, generation + 1, order, order);
    }
}

impl<C: Link> Lease<'_, C> {
    pub(crate) fn connection(&mut self) -> &mut C {
        &mut self.connection.inner
    }

    /// Returns the connection to the pool, and passes on the outcome of the call. If `is_answer` returns true, the server
    /// sent the error as the answer to a statement, and the connection remains usable. Any other error concerns the
    /// connection or the server's role, and therefore all connections of the same generation.
    pub(crate) fn end<T>(
        mut self,
        outcome: Result<T, BackendError>,
        is_answer: fn(&diesel::result::Error) -> bool,
    ) -> Result<T, BackendError> {
        match &outcome {
            Ok(_) => self.connection.busy = false,
            Err(BackendError::Query(error)) if is_answer(error) => self.connection.busy = false,
            // The state of the transaction is unknown, so this connection is closed, but no other.
            Err(BackendError::Transaction(error)) if is_answer(error) => {}
            // Other connections of this generation are probably dead as well, and each would fail a call.
            Err(_) => self.shared.retire(self.connection.generation),
        }
        outcome
    }
}

impl<C: Link> Drop for Lease<'_, C> {
    /// A call that was dropped early says nothing about the server.
    fn drop(&mut self) {
        if self.connection.busy && Instant::now() >= self.silent_at {
            self.shared.retire(self.connection.generation);
        }
    }
}

impl<C: Link> bb8::ManageConnection for Manager<C> {
    type Connection = ManagedConnection<C>;
    type Error = BackendError;

    async fn connect(&self) -> Result<ManagedConnection<C>, BackendError> {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        let outcome = timeout(self.within, (self.connect)()).await;
        let outcome = outcome.unwrap_or(Err(BackendError::Late(self.within)));
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = outcome.as_ref().err().cloned();
        Ok(ManagedConnection { inner: outcome?, generation, busy: false })
    }

    async fn is_valid(&self, connection: &mut ManagedConnection<C>) -> Result<(), BackendError> {
        let is_old = connection.generation < self.shared.generation.load(Ordering::Relaxed);
        if is_old || connection.inner.is_closed() { Err(BackendError::Gone) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut ManagedConnection<C>) -> bool {
        connection.busy || connection.inner.is_closed()
    }
}

impl<C: Link> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("state", &self.pool.state()).finish_non_exhaustive()
    }
}
