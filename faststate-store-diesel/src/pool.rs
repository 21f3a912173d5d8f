//! Connections to a server.

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

use tokio::time::timeout;

use crate::{builder::StoreSettings, error::Error};

type Connecting<C> = Pin<Box<dyn Future<Output = Result<C, Error>> + Send>>;

/// A pool that sends no query to find out whether a connection is alive. A driver that notices the end of its connection
/// reports it through [`Link::is_closed`]; otherwise a call finds out, and then all connections as old as its own are
/// replaced.
///
/// Only a connection whose last call came to its end goes back: what a dropped or failed one would still
/// answer, nobody knows.
pub(crate) struct Pool<C: Link> {
    pool: bb8::Pool<Manager<C>>,
    shared: Arc<Shared>,
    within: Duration,
}

#[derive(Default)]
struct Shared {
    /// Which connections are good: those of this generation.
    generation: AtomicU64,
    /// Why the last attempt to connect failed.
    failure: Mutex<Option<Error>>,
}

struct Manager<C> {
    connect: Box<dyn Fn() -> Connecting<C> + Send + Sync>,
    /// How long it may take: an attempt that hangs would hold its place in the pool.
    within: Duration,
    shared: Arc<Shared>,
}

struct Connection<C> {
    inner: C,
    generation: u64,
    /// Whether a call has begun and not come to its end.
    busy: bool,
}

/// A driver's connection.
pub(crate) trait Link: Send + 'static {
    /// Whether the connection is known to have ended. Sends nothing.
    fn is_closed(&mut self) -> bool;
}

/// A connection for one call.
pub(crate) struct Lease<'a, C: Link> {
    connection: bb8::PooledConnection<'a, Manager<C>>,
    shared: &'a Shared,
}

impl<C: Link> Pool<C> {
    pub(crate) fn new(
        settings: StoreSettings,
        connect: impl Fn() -> Connecting<C> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        // Somewhat less than a whole call may take, so that it can say why.
        let within = settings.timeout.mul_f32(0.95);
        let manager = Manager { connect: Box::new(connect), within, shared: Arc::clone(&shared) };
        let pool = bb8::Pool::builder()
            .max_size(settings.connections)
            .connection_timeout(within)
            .build_unchecked(manager);
        Self { pool, shared, within }
    }

    /// A connection for one call, which then must [`end`](Lease::end).
    pub(crate) async fn lease(&self) -> Result<Lease<'_, C>, Error> {
        let mut connection = self.pool.get().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => {
                let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Error::NoConnection { within: self.within, source: failure.map(Arc::new) }
            }
        })?;
        connection.busy = true;
        Ok(Lease { connection, shared: &self.shared })
    }
}

impl<C: Link> Lease<'_, C> {
    pub(crate) fn connection(&mut self) -> &mut C {
        &mut self.connection.inner
    }

    /// Gives the connection back and the call's outcome on. `is_answer` tells whether an error came from
    /// the server as an answer to the statement, so that the connection is as good as before. Any other error concerns
    /// the connection or the server's role, and so all connections of the same age.
    pub(crate) fn end<T>(
        mut self,
        outcome: Result<T, Error>,
        is_answer: fn(&diesel::result::Error) -> bool,
    ) -> Result<T, Error> {
        match &outcome {
            Ok(_) => self.connection.busy = false,
            Err(Error::Query(error)) if is_answer(error) => self.connection.busy = false,
            // How far the transaction came is unknown, so this connection is closed, and no other.
            Err(Error::Transaction(error)) if is_answer(error) => {}
            Err(_) => {
                // Others of its age most likely are dead too, and each would cost somebody a call.
                let (old, order) = (self.connection.generation, Ordering::Relaxed);
                let _ = self.shared.generation.compare_exchange(old, old + 1, order, order);
            }
        }
        outcome
    }
}

impl<C: Link> bb8::ManageConnection for Manager<C> {
    type Connection = Connection<C>;
    type Error = Error;

    async fn connect(&self) -> Result<Connection<C>, Error> {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        let outcome = timeout(self.within, (self.connect)()).await;
        let outcome = outcome.unwrap_or(Err(Error::Late(self.within)));
        let mut failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = outcome.as_ref().err().cloned();
        Ok(Connection { inner: outcome?, generation, busy: false })
    }

    async fn is_valid(&self, connection: &mut Connection<C>) -> Result<(), Error> {
        let is_old = connection.generation < self.shared.generation.load(Ordering::Relaxed);
        if is_old || connection.inner.is_closed() { Err(Error::Gone) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection<C>) -> bool {
        connection.busy || connection.inner.is_closed()
    }
}

impl<C: Link> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("state", &self.pool.state()).finish_non_exhaustive()
    }
}
