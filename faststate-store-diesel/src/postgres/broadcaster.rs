//! The broadcaster.

use std::{fmt, fmt::Write as _, future::poll_fn, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use faststate_core::{
    BoxError, Broadcaster, Key,
    broadcast::{
        BroadcastError, Change, Channel, Inbox, Interest, Receiver, Relay, RelayConnection, Transport,
    },
    store::StoreError,
};
use sha2::{Digest as _, Sha256};
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket, Statement, tls::NoTlsStream};

use super::connection::{config, connecting, refuse_transaction_pool};
use crate::error::Error;

/// How long the server may take for a call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries changes between nodes over LISTEN and NOTIFY of one PostgreSQL database.
///
/// A node listens to a key's channel while somebody there follows the key. A notification carries the key
/// and its versions, and never what is stored: whoever may connect to the database may listen, without a
/// right to any table. So a node reads the record that it hears of, once for all its followers.
/// Notifications that come while others are on their way leave together, in one transaction that does not
/// wait for the disk: commits that notify wait for each other.
///
/// PostgreSQL keeps nothing for who is away: a node that was cut off reads again what is followed there.
/// See [`Relay`] for how it notices within 4 s, and connects again.
///
/// It needs the tokio runtime that it was connected in, and one connection that nobody else gets in between:
/// a pool of transactions (PgBouncer's `pool_mode = transaction`) does not do. A role needs no rights but to
/// connect. The server looks through a connection's channels for each notification, so some ten thousand
/// keys followed on each node are what PostgreSQL is good for; beyond it there is Redis.
pub struct PostgresBroadcaster {
    relay: Relay,
    server: String,
}

impl PostgresBroadcaster {
    /// Connects to `postgres://user:password@host:port/database`. All who use the database are one
    /// application, as they are for [`DieselStore::postgres`](crate::DieselStore::postgres).
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address is none or the server refuses the user, the password or the database,
    /// [`StoreError::Unavailable`] if there is no answer in time.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, StoreError> {
        let config = config(url.as_ref(), PATIENCE)?;
        timeout(PATIENCE, refuse_transaction_pool(&config)).await.unwrap_or(Err(Error::Late(PATIENCE)))?;
        let server = format!("{:?} {:?}", config.get_hosts(), config.get_ports());
        let transport = Server { config, shown: server.clone() };
        match Relay::start(transport).await {
            Ok(relay) => Ok(Self { relay, server }),
            Err(error) => Err(match error.downcast::<Error>() {
                Ok(error) => (*error).into(),
                Err(error) => StoreError::Unavailable(error),
            }),
        }
    }

    /// Whether there is a connection at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.relay.is_connected()
    }
}

#[async_trait]
impl Broadcaster for PostgresBroadcaster {
    async fn publish(&self, change: &Change) -> Result<(), BroadcastError> {
        self.relay.publish(change).await
    }

    async fn notify(&self, key: Option<&Key>, message: Bytes) -> Result<(), BroadcastError> {
        self.relay.notify(key, message).await
    }

    async fn join(&self, key: &Key) -> Result<Interest, BroadcastError> {
        self.relay.join(key).await
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.relay.attach(inbox);
    }
}

/// One database.
struct Server {
    config: Config,
    shown: String,
}

#[async_trait]
impl Transport for Server {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(connecting)?;
        let driver = tokio::spawn(drive(connection, receiver)).abort_handle();
        let driver = Driver(driver);
        // Nothing is stored, so nothing has to be on the disk.
        let settings =
            format!("SET synchronous_commit = off; SET statement_timeout = {}", PATIENCE.as_millis());
        client.batch_execute(&settings).await?;
        let notify = client
            .prepare(
                "SELECT pg_notify(channel, payload), current_setting('transaction_read_only') = 'on'
                FROM unnest($1::text[], $2::text[]) AS l(channel, payload)",
            )
            .await?;
        Ok(Box::new(Listener { client, notify, _driver: driver }))
    }

    /// No data at all, and the longest key fits into the 7,999 bytes that there are.
    fn max_payload_bytes(&self) -> usize {
        0
    }
}

/// Has the connection work, until it ends.
async fn drive(mut connection: tokio_postgres::Connection<Socket, NoTlsStream>, receiver: Receiver) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            // What is not base64 is illegible anyway.
            receiver.receive(STANDARD_NO_PAD.decode(notification.payload()).unwrap_or_default().into());
        }
    }
    receiver.disconnected();
}

/// A connection that listens and notifies.
struct Listener {
    client: Client,
    notify: Statement,
    _driver: Driver,
}

/// Ends the connection's task: one that hangs would not end by itself.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    async fn each(&self, verb: &str, channels: &[Channel]) -> Result<(), BoxError> {
        let mut statements = String::new();
        for channel in channels {
            let _ = write!(statements, "{verb} {};", name(channel));
        }
        Ok(self.client.batch_execute(&statements).await?)
    }
}

#[async_trait]
impl RelayConnection for Listener {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        self.each("LISTEN", channels).await
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        self.each("UNLISTEN", channels).await
    }

    async fn send(&self, letters: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let (channels, payloads): (Vec<_>, Vec<_>) =
            letters.iter().map(|(channel, payload)| (name(channel), STANDARD_NO_PAD.encode(payload))).unzip();
        let rows = self.client.query(&self.notify, &[&channels, &payloads]).await?;
        // A demoted server may still carry notifications, but the nodes that connect now are at its successor.
        let is_read_only = rows.first().is_some_and(|row| row.get(1));
        if is_read_only { Err("the server has become read-only".into()) } else { Ok(()) }
    }
}

/// A channel's name in PostgreSQL, which has at most 63 bytes: a hash. What arrives says itself what it is
/// about, so that even two channels of one name would only hear too much.
fn name(channel: &Channel) -> String {
    let digest = Sha256::digest(channel.to_string());
    let mut name = String::from("faststate_");
    for byte in &digest[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("server", &self.shown).finish()
    }
}

impl fmt::Debug for PostgresBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroadcaster")
            .field("server", &self.server)
            .field("relay", &self.relay)
            .finish()
    }
}
