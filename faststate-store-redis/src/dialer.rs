//! Opens a connection to one server: the socket, encryption, and the login.

use std::{error::Error as _, future::Future, io, sync::Arc, time::Duration};

use bb8_redis::redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use crate::{
    address::{Credentials, RedisAddress, ServerAddress},
    tls::{self, TlsClient, TlsProblem},
};

/// Opens connections with the credentials and the certificates of an address.
#[derive(Clone)]
pub(crate) struct Dialer {
    login: RedisConnectionInfo,
    tls: Option<TlsClient>,
    timeouts: Timeouts,
}

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// From the start of connecting until the connection can be used.
    pub(crate) connect: Duration,
    /// From sending a command until its answer.
    pub(crate) answer: Duration,
}

/// A connection that has logged in. It is closed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct RedisLink {
    pub(crate) redis: MultiplexedConnection,
    _driver: Arc<AbortOnDrop>,
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{server} cannot be reached")]
    Network { server: ServerAddress, source: Arc<io::Error> },
    #[error("{server}: {problem}")]
    Tls { server: ServerAddress, problem: TlsProblem },
    #[error("{server} closed the connection during {phase}: {advice}")]
    Closed { server: ServerAddress, phase: &'static str, advice: &'static str, source: RedisError },
    #[error("{server} refuses the login: {advice}")]
    Login { server: ServerAddress, advice: &'static str, source: RedisError },
    #[error("{server} returned an error")]
    Server { server: ServerAddress, source: RedisError },
    #[error("{server} did not finish {phase} in time{advice}")]
    Late { server: ServerAddress, phase: &'static str, advice: &'static str },
    #[error("{server} accepts no writes: it is a replica")]
    Replica { server: ServerAddress },
    #[error("{server} is about to be replaced by another primary")]
    Leaving { server: ServerAddress },
    #[error("none of the sentinels knows the service `{service}`: check the name after the hosts")]
    UnknownService { service: String },
    #[error("{server} is not a server of a cluster: use `redis://` instead of `redis+cluster://`")]
    NoCluster { server: ServerAddress },
    #[error("{server} closed the connection")]
    Ended { server: ServerAddress },
    #[error("there is no host in the address")]
    NoHost,
}

impl ConnectError {
    /// Whether a retry cannot succeed until the address, a certificate or the server's configuration is changed.
    pub(crate) const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Tls { .. }
                | Self::Login { .. }
                | Self::UnknownService { .. }
                | Self::NoCluster { .. }
                | Self::NoHost
        )
    }
}

impl Dialer {
    /// Reads the certificates, which blocks for a few milliseconds.
    pub(crate) fn new(address: &RedisAddress, timeouts: Timeouts) -> Result<Self, TlsProblem> {
        let tls = address.tls.as_ref().map(TlsClient::new).transpose()?;
        Ok(Self { login: login(&address.credentials).set_db(address.database), tls, timeouts })
    }

    /// The same certificates with other credentials, without a database: for sentinels.
    pub(crate) fn with_credentials(&self, credentials: &Credentials) -> Self {
        Self { login: login(credentials), ..self.clone() }
    }

    /// The same with another time to connect.
    pub(crate) fn with_connect_timeout(&self, connect: Duration) -> Self {
        Self { timeouts: Timeouts { connect, ..self.timeouts }, ..self.clone() }
    }

    pub(crate) const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Connects, and passes push messages to `on_push`, the last of which reports the end of the connection.
    pub(crate) async fn dial(
        &self,
        server: &ServerAddress,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<RedisLink, ConnectError> {
        let deadline = Instant::now() + self.timeouts.connect;
        let stream = self.open(server, deadline).await?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.timeouts.answer))
            .set_push_sender(move |push: PushInfo| {
                on_push(push);
                Ok::<(), ()>(())
            });
        let setup = MultiplexedConnection::new_with_config(&self.login, stream, config);
        let advice = if self.tls.is_some() { "" } else { ": if it uses TLS, use `rediss://`" };
        let (redis, driver) = in_time(server, "the login", advice, deadline, setup)
            .await?
            .map_err(|error| self.login_error(server, error))?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(RedisLink { redis, _driver: Arc::new(AbortOnDrop(driver)) })
    }

    async fn open(&self, server: &ServerAddress, deadline: Instant) -> Result<Box<dyn Stream>, ConnectError> {
        let network = |error| ConnectError::Network { server: server.clone(), source: Arc::new(error) };
        let (host, port) = match server {
            ServerAddress::Socket(path) => {
                let stream = in_time(server, "connecting", "", deadline, UnixStream::connect(path)).await?;
                return Ok(Box::new(stream.map_err(network)?));
            }
            ServerAddress::Tcp { host, port } => (&**host, *port),
        };
        let connecting = async {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
            for address in lookup_host((host, port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        let stream = in_time(server, "connecting", "", deadline, connecting).await?.map_err(network)?;
        tune(&stream, self.timeouts.answer).map_err(network)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let advice = ": if it does not use TLS, use its port with TLS, or `redis://` without encryption";
        let handshake =
            in_time(server, "the TLS handshake", advice, deadline, tls.connect(host, stream)).await?;
        let stream = handshake.map_err(|error| {
            let server = server.clone();
            match tls::problem(&error, tls.has_client_certificate()) {
                Some(problem) => ConnectError::Tls { server, problem },
                None => ConnectError::Closed {
                    server,
                    phase: "the TLS handshake",
                    advice: "if it does not use TLS, use its port with TLS, or `redis://` without encryption",
                    source: error.into(),
                },
            }
        })?;
        Ok(Box::new(stream))
    }

    fn login_error(&self, server: &ServerAddress, source: RedisError) -> ConnectError {
        let server = server.clone();
        let has_client_certificate = self.tls.as_ref().is_some_and(TlsClient::has_client_certificate);
        // With TLS 1.3, a server checks the client's certificate after the handshake.
        if let Some(problem) = io_error(&source).and_then(|error| tls::problem(error, has_client_certificate))
        {
            return ConnectError::Tls { server, problem };
        }
        let advice = match (source.kind(), source.code()) {
            (ErrorKind::RESP3NotSupported, _) => "it is too old: Redis 6.2, Valkey or later is required",
            (_, Some("NOPERM")) => "the user may not use this command: change the server's ACL",
            (_, Some("NOAUTH")) => "it requires a password: write `user:password@` before the host",
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                "the user or the password is wrong: check the text before the `@` of the address"
            }
            (ErrorKind::Io, _) => {
                let advice = match &self.tls {
                    None => "if it uses TLS, use `rediss://`",
                    Some(_) if has_client_certificate => "check the client certificate",
                    Some(_) => {
                        "if it requires a client certificate, name its files with `sslcert` and `sslkey`"
                    }
                };
                return ConnectError::Closed { server, phase: "the login", advice, source };
            }
            _ if source.to_string().contains("NOAUTH") => {
                "it requires a password: write `user:password@` before the host"
            }
            // The server's answer to binary data in front of its own protocol, or to a database that does not exist.
            (ErrorKind::Parse, _) => "it does not speak Redis' protocol; if it uses TLS, use `rediss://`",
            _ if source.to_string().contains("DB index") => "it has no database of this number",
            _ => return ConnectError::Server { server, source },
        };
        ConnectError::Login { server, advice, source }
    }
}

/// A socket, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn login(credentials: &Credentials) -> RedisConnectionInfo {
    // RESP3 reports the end of a connection, and allows commands on a connection with subscriptions.
    let mut login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &credentials.user {
        login = login.set_username(user);
    }
    if let Some(password) = &credentials.password {
        login = login.set_password(password);
    }
    login
}

fn tune(stream: &TcpStream, answer: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // Unsent data must not arrive after its caller has received an error, so closing a connection resets it.
    socket.set_linger(Some(Duration::ZERO))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(answer))?;
    Ok(())
}

async fn in_time<T>(
    server: &ServerAddress,
    phase: &'static str,
    advice: &'static str,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    let late = |_| ConnectError::Late { server: server.clone(), phase, advice };
    timeout_at(deadline, work).await.map_err(late)
}

/// The I/O error in an error of the driver, which shares it.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    source.downcast_ref().or_else(|| {
        source
            .downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()
            .and_then(|shared| shared.downcast_ref())
    })
}
