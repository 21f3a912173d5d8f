//! Finds the server that accepts writes, and connects to it.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bb8_redis::redis::{PushInfo, RedisError, cmd};

use crate::{
    address::{Deployment, RedisAddress, ServerAddress},
    dialer::{AbortOnDrop, ConnectError, Dialer, RedisLink},
    error::is_demoted,
    sentinels::Sentinels,
};

/// The part of the time to connect that one of several hosts may take.
const HOST_SHARE: u32 = 3;
/// The shortest time for one of several hosts.
const MIN_HOST_TIME: Duration = Duration::from_millis(200);

/// The server of an address that accepts writes.
#[derive(Clone)]
pub(crate) struct Primary {
    dialer: Dialer,
    hosts: Arc<[ServerAddress]>,
    /// The sentinels, and the task that watches all of them.
    sentinels: Option<(Sentinels, Arc<AbortOnDrop>)>,
    /// A key that never exists, to check whether a server accepts writes.
    nothing: Arc<str>,
    /// The host that accepted writes last, which is tried first. Relaxed: any host is correct.
    first: Arc<AtomicUsize>,
}

/// A connection to the server that accepted writes when it was made.
pub(crate) struct PrimaryLink {
    pub(crate) link: RedisLink,
    pub(crate) server: ServerAddress,
}

impl Primary {
    /// Needs a tokio runtime, in which the sentinels are watched.
    pub(crate) fn new(address: &RedisAddress, dialer: Dialer, nothing: String) -> Self {
        let hosts: Arc<[_]> = address.hosts.clone().into();
        let sentinels = match &address.deployment {
            Deployment::Sentinel { service, credentials } => {
                let sentinels =
                    Sentinels::new(Arc::clone(&hosts), service, &dialer.with_credentials(credentials));
                let watch = tokio::spawn(sentinels.clone().watch()).abort_handle();
                Some((sentinels, Arc::new(AbortOnDrop(watch))))
            }
            Deployment::Servers | Deployment::Cluster => None,
        };
        Self { dialer, hosts, sentinels, nothing: nothing.into(), first: Arc::default() }
    }

    /// One server of a cluster.
    pub(crate) fn fixed(server: ServerAddress, dialer: Dialer) -> Self {
        Self { dialer, hosts: [server].into(), sentinels: None, nothing: "".into(), first: Arc::default() }
    }

    /// A host to name in errors.
    pub(crate) fn first_host(&self) -> ServerAddress {
        self.hosts[0].clone()
    }

    pub(crate) const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Whether a connection to this server is still one to the primary, as far as the sentinels have reported.
    pub(crate) fn is_current(&self, server: &ServerAddress) -> bool {
        self.sentinels.as_ref().is_none_or(|(sentinels, _)| sentinels.is_current(server))
    }

    /// Waits until this server [is no longer current](Self::is_current). Without sentinels, it waits forever.
    pub(crate) async fn replaced(&self, server: &ServerAddress) {
        match &self.sentinels {
            Some((sentinels, _)) => sentinels.replaced(server).await,
            None => pending().await,
        }
    }

    /// Connects. With several hosts or sentinels, also checks that the server accepts writes.
    pub(crate) async fn connect(
        &self,
        on_push: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> Result<PrimaryLink, ConnectError> {
        if let Some((sentinels, _)) = &self.sentinels {
            let server = sentinels.find().await?;
            if !sentinels.is_current(&server) {
                return Err(ConnectError::Leaving { server });
            }
            let connected = self.connect_writable(&self.dialer, &server, on_push).await;
            if connected.is_err() {
                sentinels.forget(&server);
            }
            return connected;
        }
        if let [server] = &*self.hosts {
            let link = self.dialer.dial(server, on_push).await?;
            return Ok(PrimaryLink { link, server: server.clone() });
        }
        let limit = (self.dialer.timeouts().connect / HOST_SHARE).max(MIN_HOST_TIME);
        let dialer = self.dialer.with_connect_timeout(limit);
        let mut failure = ConnectError::NoHost;
        let first = self.first.load(Ordering::Relaxed);
        for at in (0..self.hosts.len()).map(|at| (first + at) % self.hosts.len()) {
            match self.connect_writable(&dialer, &self.hosts[at], on_push.clone()).await {
                Ok(connected) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                // A wrong password or certificate says more than a host that is down.
                Err(error) if !failure.is_permanent() || error.is_permanent() => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn connect_writable(
        &self,
        dialer: &Dialer,
        server: &ServerAddress,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<PrimaryLink, ConnectError> {
        let server = server.clone();
        let mut link = dialer.dial(&server, on_push).await?;
        let written: Result<(), RedisError> =
            cmd("DEL").arg(&*self.nothing).query_async(&mut link.redis).await;
        match written {
            Err(error) if is_demoted(&error) => Err(ConnectError::Replica { server }),
            Err(source) if source.is_io_error() => Err(ConnectError::Server { server, source }),
            // A server without memory or a user without the right is still the primary.
            _ => Ok(PrimaryLink { link, server }),
        }
    }
}
