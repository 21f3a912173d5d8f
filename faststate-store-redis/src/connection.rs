//! Connections to Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bb8_redis::{
    bb8::ManageConnection,
    redis::{
        AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, ProtocolVersion,
        PushInfo, PushKind, RedisError, RedisResult, Value, aio::MultiplexedConnection,
    },
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::{command::Scripts, error::has_code};

/// Maximum random pause after a failed attempt to connect, so that many nodes do not reconnect at once.
const MAX_RECONNECT_JITTER: Duration = Duration::from_millis(200);

/// Opens connections for the pool. The manager of bb8-redis sends PING at each check-out, does not notice closed
/// connections and sets no timeouts. This one notices a closed connection at once, because RESP3 reports it.
pub(crate) struct Connector {
    client: Client,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    failure: LastFailure,
}

/// The error of the last attempt to connect, if it failed. bb8 itself reports only that there is no connection.
#[derive(Clone, Default)]
pub(crate) struct LastFailure(Arc<Mutex<Option<RedisError>>>);

impl LastFailure {
    pub(crate) fn get(&self) -> Option<RedisError> {
        self.0.lock().clone()
    }

    fn set(&self, failure: Option<RedisError>) {
        *self.0.lock() = failure;
    }
}

impl Connector {
    pub(crate) fn new(info: &ConnectionInfo, connect: Duration, answer: Duration) -> RedisResult<Self> {
        let info = tuned(info, answer);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(answer));
        Ok(Self {
            client: Client::open(info)?,
            config,
            connect_timeout: connect,
            failure: LastFailure::default(),
        })
    }

    pub(crate) fn failure(&self) -> LastFailure {
        self.failure.clone()
    }

    async fn try_connect(&self) -> RedisResult<PooledConnection> {
        let cut = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&cut);
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                notice.store(true, Ordering::Relaxed);
            }
            Ok::<(), ()>(())
        });
        let mut redis = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let scripts = load_scripts(&mut redis).await?;
        Ok(PooledConnection { redis, scripts, cut })
    }
}

impl ManageConnection for Connector {
    type Connection = PooledConnection;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<PooledConnection> {
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        match timeout(self.connect_timeout, self.try_connect()).await.unwrap_or_else(late) {
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
    async fn is_valid(&self, connection: &mut PooledConnection) -> RedisResult<()> {
        if self.has_broken(connection) {
            return Err((ErrorKind::Io, "the connection was closed").into());
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut PooledConnection) -> bool {
        connection.cut.load(Ordering::Relaxed)
    }
}

/// Adds the settings of every connection: RESP3, which reports the end of a connection, and TCP timeouts.
pub(crate) fn tuned(info: &ConnectionInfo, answer: Duration) -> ConnectionInfo {
    let info =
        info.clone().set_redis_settings(info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3));
    if matches!(info.addr(), ConnectionAddr::Unix(_)) {
        return info;
    }
    // Unsent data must not arrive after its caller has received an error, so closing a connection resets it.
    let settings = info.tcp_settings().clone().set_linger_time(Duration::ZERO);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(answer);
    info.set_tcp_settings(settings)
}

/// One connection, with its scripts loaded.
pub(crate) struct PooledConnection {
    redis: MultiplexedConnection,
    scripts: Scripts,
    cut: Arc<AtomicBool>,
}

impl PooledConnection {
    pub(crate) const fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Sends the commands in one pipeline. Returns the answer to each, or the error that prevented all answers.
    pub(crate) async fn exchange(&mut self, mut pipeline: Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let answers: RedisResult<Vec<RedisResult<Value>>> =
            pipeline.ignore_errors().query_async(&mut self.redis).await;
        let replica = |answer: &RedisResult<Value>| {
            let is_refused = |error| has_code(error, "READONLY") || has_code(error, "MASTERDOWN");
            answer.as_ref().is_err_and(is_refused)
        };
        // After a timeout, a closed connection or an answer of a replica, this connection is not used again.
        if answers.as_ref().map_or(true, |answers| answers.iter().any(replica)) {
            self.cut.store(true, Ordering::Relaxed);
        }
        answers
    }

    /// Loads the scripts again after a `SCRIPT FLUSH`.
    pub(crate) async fn reload(&mut self) -> RedisResult<()> {
        self.scripts = load_scripts(&mut self.redis).await?;
        Ok(())
    }
}

async fn load_scripts(redis: &mut MultiplexedConnection) -> RedisResult<Scripts> {
    let names: [String; 3] = Scripts::load().query_async(redis).await?;
    Ok(names.into())
}
