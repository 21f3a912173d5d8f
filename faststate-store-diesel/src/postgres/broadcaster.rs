//! The broadcaster over LISTEN and NOTIFY.

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
use tokio_postgres::{AsyncMessage, Client, Statement};

use super::connector::{DriverTask, PostgresConnector, SocketDriver};
use crate::error::BackendError;

/// Deadline of a call to the server.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Carries changes between nodes over LISTEN and NOTIFY of one PostgreSQL database.
///
/// A node listens to the channel of every key that is followed there. A notification carries the key and its versions,
/// never the stored data, because every role that may connect to the database may listen, without a right to any table.
/// A node therefore loads the record after a notification, once for all its followers. Notifications that are queued while
/// others are in progress share one transaction, because commits with notifications wait for each other. It does not wait
/// for the disk.
///
/// PostgreSQL keeps no notifications for disconnected nodes: a node that was disconnected reloads the keys that are
/// followed there. [`Relay`] describes how it notices within 4 s and reconnects.
///
/// It needs the tokio runtime in which it was connected, and one connection of its own: a transaction pool (PgBouncer with
/// `pool_mode = transaction`) does not work. A role needs no right except to connect. The server scans a connection's
/// channels for each notification, so PostgreSQL suits up to about ten thousand followed keys per node; use Redis for
/// more.
pub struct PostgresBroadcaster {
    relay: Relay,
    server: String,
}

impl PostgresBroadcaster {
    /// Connects to `postgres://user:password@host:port/database`. All users of the database
    /// are one application, as they are for [`DieselStore::postgres`](crate::DieselStore::postgres).
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the address is invalid or the server refuses the user, the password or the database,
    /// [`StoreError::Unavailable`] if there is no answer in time.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, StoreError> {
        let connector = PostgresConnector::new(url.as_ref(), CALL_TIMEOUT)?;
        if connector.is_transaction_pool() {
            return Err(BackendError::PooledBroadcaster.into());
        }
        connector.refuse_transaction_pool().await?;
        let server = format!("{connector:?}");
        let transport = PostgresTransport { connector };
        match Relay::start(transport).await {
            Ok(relay) => Ok(Self { relay, server }),
            Err(error) => Err(match error.downcast::<BackendError>() {
                Ok(error) => (*error).into(),
                Err(error) => StoreError::Unavailable(error),
            }),
        }
    }

    /// Returns whether there is a connection at the moment.
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

/// Connects to one database.
#[derive(Debug)]
struct PostgresTransport {
    connector: PostgresConnector,
}

#[async_trait]
impl Transport for PostgresTransport {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let (client, driver) = self.connector.connect().await?;
        let task = DriverTask(tokio::spawn(drive(driver, receiver)).abort_handle());
        // No data is stored, so no commit has to wait for the disk.
        let settings =
            format!("SET synchronous_commit = off; SET statement_timeout = {}", CALL_TIMEOUT.as_millis());
        client.batch_execute(&settings).await?;
        let notify = client
            .prepare(
                "SELECT pg_notify(channel, payload), current_setting('transaction_read_only') = 'on'
                FROM unnest($1::text[], $2::text[]) AS l(channel, payload)",
            )
            .await?;
        Ok(Box::new(Listener { client, notify, _task: task }))
    }

    /// Notifications carry no data. The longest key fits into PostgreSQL's limit of 7,999 bytes.
    fn max_payload_bytes(&self) -> usize {
        0
    }
}

/// Drives the connection until it ends.
async fn drive(mut driver: SocketDriver, receiver: Receiver) {
    while let Some(Ok(message)) = poll_fn(|cx| driver.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            // A payload that is not base64 is invalid in any case.
            receiver.receive(STANDARD_NO_PAD.decode(notification.payload()).unwrap_or_default().into());
        }
    }
    receiver.disconnected();
}

/// A connection that listens and notifies.
struct Listener {
    client: Client,
    notify: Statement,
    _task: DriverTask,
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

    async fn send(&self, messages: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let (channels, payloads): (Vec<_>, Vec<_>) = messages
            .iter()
            .map(|(channel, payload)| (name(channel), STANDARD_NO_PAD.encode(payload)))
            .unzip();
        let rows = self.client.query(&self.notify, &[&channels, &payloads]).await?;
        // A demoted server may still carry notifications, but the nodes that connect now are at its successor.
        let is_read_only = rows.first().is_some_and(|row| row.get(1));
        if is_read_only { Err("the server has become read-only".into()) } else { Ok(()) }
    }
}

/// The name of a channel in PostgreSQL: a hash, because a name has at most 63 bytes. Each payload contains its key, so
/// a collision of two names would only deliver superfluous notifications.
fn name(channel: &Channel) -> String {
    let digest = Sha256::digest(channel.to_string());
    let mut name = String::from("faststate_");
    for byte in &digest[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

impl fmt::Debug for PostgresBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBroadcaster")
            .field("server", &self.server)
            .field("relay", &self.relay)
            .finish()
    }
}
