//! Connects to the first host of an address that accepts writes, with TLS if the address says so.

use std::{
    error::Error as _,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::try_join;
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage, Socket,
    tls::{MakeTlsConnect, NoTlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{PostgresAddress, PostgresHost, TLS};
use crate::{
    address::DatabaseAddressError,
    error::BackendError,
    tls::{TlsFailure, client_config},
};

/// Opens connections to one database.
pub(super) struct PostgresConnector {
    hosts: Vec<HostConnector>,
    /// The host that accepted writes last, which is tried first. Relaxed: any host is correct.
    first: AtomicUsize,
    is_transaction_pool: bool,
    /// Deadline of [`connect`](Self::connect).
    timeout: Duration,
}

/// Opens connections to one host.
struct HostConnector {
    config: Config,
    /// `None` if the connection is never encrypted.
    tls: Option<MakeRustlsConnect>,
}

type EncryptedStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The part of a connection that reads and writes the socket while it is polled.
pub(super) enum SocketDriver {
    Plain(Box<Connection<Socket, NoTlsStream>>),
    Encrypted(Box<Connection<Socket, EncryptedStream>>),
}

/// Aborts a task on drop: the task of a connection that hangs would not end by itself.
pub(super) struct DriverTask(pub(super) AbortHandle);

impl PostgresConnector {
    /// Parses an address, and reads the files that it names.
    pub(super) fn new(address: &str, timeout: Duration) -> Result<Self, BackendError> {
        let PostgresAddress { hosts, is_transaction_pool } = PostgresAddress::parse(address, timeout)?;
        let hosts = hosts.into_iter().map(HostConnector::new).collect::<Result<_, _>>()?;
        Ok(Self { hosts, first: AtomicUsize::default(), is_transaction_pool, timeout })
    }

    /// Treats the address as one of a transaction pool, even if it does not say so.
    pub(super) fn or_transaction_pool(self, is_transaction_pool: bool) -> Self {
        Self { is_transaction_pool: self.is_transaction_pool || is_transaction_pool, ..self }
    }

    /// Returns whether the address leads to a pool that gives each transaction another connection.
    pub(super) const fn is_transaction_pool(&self) -> bool {
        self.is_transaction_pool
    }

    /// Connects to the first host that accepts writes, beginning with the one that did so last. Each host has an equal
    /// share of the deadline, because a server that hangs also accepts connections.
    pub(super) async fn connect(&self) -> Result<(Client, SocketDriver), BackendError> {
        let share = self.timeout / u32::try_from(self.hosts.len()).unwrap_or(u32::MAX).max(1);
        let mut failure = None;
        let first = self.first.load(Ordering::Relaxed);
        for at in (0..self.hosts.len()).map(|at| (first + at) % self.hosts.len()) {
            let connect = self.hosts[at].connect();
            let outcome = timeout(share, connect).await.unwrap_or(Err(BackendError::Late(share)));
            match outcome {
                Ok(connected) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                // As libpq does: no other host is tried after one that refuses the user or the password.
                Err(BackendError::Denied { .. }) => return outcome,
                // What an operator has to change is more useful than that the next host is unreachable.
                Err(error) if !matches!(failure, Some(BackendError::Tls { .. })) => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or(BackendError::Gone))
    }

    /// Fails if the address leads to a transaction pool, in which two clients share a process of the server.
    pub(super) async fn refuse_transaction_pool(&self) -> Result<(), BackendError> {
        let found = timeout(self.timeout, self.find_transaction_pool()).await;
        match found.unwrap_or(Err(BackendError::Late(self.timeout)))? {
            true => Err(BackendError::TransactionPool),
            false => Ok(()),
        }
    }

    async fn find_transaction_pool(&self) -> Result<bool, BackendError> {
        let ((first, first_driver), (second, second_driver)) =
            try_join(self.connect(), self.connect()).await?;
        // The tasks end when the clients are dropped.
        first_driver.spawn();
        second_driver.spawn();
        Ok(process(&first).await? == process(&second).await?)
    }
}

impl HostConnector {
    fn new(host: PostgresHost) -> Result<Self, DatabaseAddressError> {
        let PostgresHost { config, tls } = host;
        let tls = tls.map(|tls| client_config(&tls, &TLS)).transpose()?.map(MakeRustlsConnect::new);
        Ok(Self { config, tls })
    }

    async fn connect(&self) -> Result<(Client, SocketDriver), BackendError> {
        let connected = match &self.tls {
            None => {
                let connected = self.config.connect(NoTls).await;
                connected.map(|(client, connection)| (client, SocketDriver::Plain(Box::new(connection))))
            }
            Some(tls) => {
                let connected = self.config.connect(tls.clone()).await;
                connected.map(|(client, connection)| (client, SocketDriver::Encrypted(Box::new(connection))))
            }
        };
        connected.map_err(connect_error)
    }
}

impl SocketDriver {
    /// Reads and writes the socket; returns the next notice or notification, and `None` at the end.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Self::Plain(connection) => connection.poll_message(context),
            Self::Encrypted(connection) => connection.poll_message(context),
        }
    }

    /// Drives the connection in a task, until its client is dropped or the connection ends.
    pub(super) fn spawn(self) -> AbortHandle {
        let task = match self {
            Self::Plain(connection) => tokio::spawn(async { drop(connection.await) }),
            Self::Encrypted(connection) => tokio::spawn(async { drop(connection.await) }),
        };
        task.abort_handle()
    }
}

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The server process that runs this client's transaction. Uses the simple protocol, which every pool forwards.
async fn process(client: &Client) -> Result<Option<String>, BackendError> {
    let answers = client.simple_query("SELECT pg_backend_pid()").await.map_err(connect_error)?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Classifies an error during the connection or the log-in.
pub(super) fn connect_error(error: tokio_postgres::Error) -> BackendError {
    if let Some(failure) = tls_failure(&error) {
        return BackendError::Tls { explanation: failure.explain(&TLS), source: Arc::new(error) };
    }
    // Classes 28 and 3D: invalid authorization, invalid database.
    let is_denied =
        error.code().is_some_and(|code| code.code().starts_with("28") || code.code().starts_with("3D"));
    if is_denied {
        BackendError::Denied { hint: "", source: Arc::new(error) }
    } else {
        BackendError::Connect(Arc::new(error))
    }
}

fn tls_failure(error: &tokio_postgres::Error) -> Option<TlsFailure> {
    /// Texts with which PostgreSQL, Neon, Supabase and Azure refuse an unencrypted connection.
    const DEMANDS: [&str; 3] = ["no encryption", "connection is insecure", "SSL connection is required"];
    if let Some(answer) = error.as_db_error() {
        let text = answer.message();
        if text.contains("requires a valid client certificate") {
            return Some(TlsFailure::ClientCertificateMissing);
        }
        return DEMANDS.iter().any(|demand| text.contains(demand)).then_some(TlsFailure::Demanded);
    }
    if error.source().is_some_and(|source| source.to_string() == "server does not support TLS") {
        return Some(TlsFailure::NotOffered);
    }
    TlsFailure::of(error)
}

impl fmt::Debug for PostgresConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for HostConnector { config, tls } in &self.hosts {
            let encryption =
                if tls.is_some() { config.get_ssl_mode() } else { tokio_postgres::config::SslMode::Disable };
            list.entry(&(config.get_hosts(), config.get_ports(), config.get_dbname(), encryption));
        }
        list.finish()
    }
}
