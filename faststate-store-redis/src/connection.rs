//! Pooled connections of the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bb8_redis::{
    bb8::ManageConnection,
    redis::{Pipeline, PushInfo, PushKind, RedisResult, Value},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    address::ServerAddress,
    command::{SCRIPTS, Scripts},
    dialer::{ConnectError, RedisLink},
    error::is_demoted,
    primary::{Primary, PrimaryLink},
};

/// Maximum random pause after a failed attempt to connect, so that many nodes do not reconnect at once.
const MAX_RECONNECT_JITTER: Duration = Duration::from_millis(200);

/// Opens connections for the pool. The manager of bb8-redis sends PING at each check-out, does not notice closed
/// connections and sets no timeouts. This one notices a closed connection at once, because RESP3 reports it.
pub(crate) struct Connector {
    primary: Primary,
    failure: LastFailure,
}

/// The error of the last attempt to connect, if it failed. bb8 itself reports only that there is no connection.
#[derive(Clone, Default)]
pub(crate) struct LastFailure(watch::Sender<Option<ConnectError>>);

impl LastFailure {
    /// Returns the error. If there is none yet, because the first attempt has not ended, waits for it for at most this
    /// time.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<ConnectError> {
        let mut changes = self.0.subscribe();
        let _ = timeout(limit, changes.wait_for(Option::is_some)).await;
        self.get()
    }

    fn get(&self) -> Option<ConnectError> {
        self.0.borrow().clone()
    }

    fn set(&self, failure: Option<ConnectError>) {
        self.0.send_replace(failure);
    }
}

impl Connector {
    pub(crate) fn new(primary: Primary) -> Self {
        Self { primary, failure: LastFailure::default() }
    }

    pub(crate) fn failure(&self) -> LastFailure {
        self.failure.clone()
    }

    async fn try_connect(&self) -> Result<PooledConnection, ConnectError> {
        let cut = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&cut);
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                notice.store(true, Ordering::Relaxed);
            }
        };
        let PrimaryLink { mut link, server } = self.primary.connect(on_push).await?;
        let scripts = load_scripts(&mut link)
            .await
            .map_err(|source| ConnectError::Server { server: server.clone(), source })?;
        Ok(PooledConnection { link, server, scripts, cut })
    }
}

impl ManageConnection for Connector {
    type Connection = PooledConnection;
    type Error = ConnectError;

    async fn connect(&self) -> Result<PooledConnection, ConnectError> {
        // Longer than the dialer's own limit, whose error names the phase that took too long.
        let limit = self.primary.dialer().timeouts().connect * 9 / 8;
        let late = |_| {
            // The failure of one host, or of the phase that took too long, says more.
            let server = self.primary.first_host();
            Err(self.failure.get().unwrap_or(ConnectError::Late { server, phase: "connecting", advice: "" }))
        };
        match timeout(limit, self.try_connect()).await.unwrap_or_else(late) {
            Ok(connection) => {
                self.failure.set(None);
                Ok(connection)
            }
            Err(error) => {
                self.failure.set(Some(error.clone()));
                sleep(MAX_RECONNECT_JITTER.mul_f64(rand::random())).await;
                Err(error)
            }
        }
    }

    /// Sends nothing, because a closed connection has already been reported.
    async fn is_valid(&self, connection: &mut PooledConnection) -> Result<(), ConnectError> {
        if self.has_broken(connection) {
            return Err(ConnectError::Ended { server: connection.server.clone() });
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut PooledConnection) -> bool {
        connection.cut.load(Ordering::Relaxed) || !self.primary.is_current(&connection.server)
    }
}

/// One connection, with its scripts loaded.
pub(crate) struct PooledConnection {
    link: RedisLink,
    server: ServerAddress,
    scripts: Scripts,
    /// Whether it is not to be used again. Relaxed: the flag alone matters.
    cut: Arc<AtomicBool>,
}

impl PooledConnection {
    pub(crate) const fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Sends the commands in one pipeline. Returns the answer to each, or the error that prevented all answers.
    pub(crate) async fn exchange(&mut self, mut pipeline: Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let answers: RedisResult<Vec<RedisResult<Value>>> =
            pipeline.ignore_errors().query_async(&mut self.link.redis).await;
        let demoted = |answer: &RedisResult<Value>| answer.as_ref().is_err_and(is_demoted);
        // After a timeout, a closed connection or an answer of a demoted server, this connection is not used again.
        if answers.as_ref().map_or(true, |answers| answers.iter().any(demoted)) {
            self.cut.store(true, Ordering::Relaxed);
        }
        answers
    }

    /// Loads the scripts again after a `SCRIPT FLUSH`.
    pub(crate) async fn reload(&mut self) -> RedisResult<()> {
        self.scripts = load_scripts(&mut self.link).await?;
        Ok(())
    }
}

async fn load_scripts(link: &mut RedisLink) -> RedisResult<Scripts> {
    let names: [String; SCRIPTS] = Scripts::load().query_async(&mut link.redis).await?;
    Ok(names.into())
}
