//! The broadcaster's transport over one server at a time.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bb8_redis::redis::{Pipeline, PushInfo, RedisResult, Value};
use bytes::Bytes;
use faststate_core::{
    BoxError,
    broadcast::{Channel, Receiver, RelayConnection, Transport},
};

use crate::{
    dialer::{AbortOnDrop, RedisLink},
    error::is_demoted,
    keys::Prefix,
    primary::{Primary, PrimaryLink},
    push::{MAX_PAYLOAD_BYTES, receive},
};

/// Connects to the server that accepts writes.
pub(crate) struct PrimaryTransport {
    primary: Primary,
    prefix: Arc<Prefix>,
    address: String,
}

impl PrimaryTransport {
    pub(crate) fn new(primary: Primary, prefix: Prefix, address: String) -> Self {
        Self { primary, prefix: Arc::new(prefix), address }
    }
}

#[async_trait]
impl Transport for PrimaryTransport {
    async fn connect(&self, receiver: Receiver) -> Result<Box<dyn RelayConnection>, BoxError> {
        let pushed = receiver.clone();
        let PrimaryLink { link, server } =
            self.primary.connect(move |push: PushInfo| receive(&pushed, push)).await?;
        let primary = self.primary.clone();
        let watch = tokio::spawn(async move {
            primary.replaced(&server).await;
            receiver.disconnected();
        });
        let _watch = AbortOnDrop(watch.abort_handle());
        Ok(Box::new(Subscriber { link, prefix: Arc::clone(&self.prefix), _watch }))
    }

    fn max_payload_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }
}

/// A connection that publishes and subscribes; RESP3 allows both on one connection.
struct Subscriber {
    link: RedisLink,
    prefix: Arc<Prefix>,
    /// Reports that the sentinels name another primary, or are about to.
    _watch: AbortOnDrop,
}

impl Subscriber {
    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.prefix.channel(channel)).collect()
    }
}

#[async_trait]
impl RelayConnection for Subscriber {
    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        Ok(self.link.redis.clone().subscribe(self.names(channels)).await?)
    }

    async fn unsubscribe(&self, channels: &[Channel]) -> Result<(), BoxError> {
        Ok(self.link.redis.clone().unsubscribe(self.names(channels)).await?)
    }

    /// Sends the messages. With each probe, it also checks that the server accepts writes: a demoted server goes on
    /// carrying messages, but only to the nodes that have not left it.
    async fn send(&self, messages: &[(Channel, Bytes)]) -> Result<(), BoxError> {
        let mut pipeline = Pipeline::with_capacity(messages.len() + 1);
        for (channel, payload) in messages {
            pipeline.cmd("PUBLISH").arg(self.prefix.channel(channel)).arg(&**payload);
        }
        if messages.iter().any(|(channel, _)| matches!(channel, Channel::Node(..))) {
            pipeline.cmd("DEL").arg(self.prefix.nothing());
        }
        let answers: Vec<RedisResult<Value>> =
            pipeline.ignore_errors().query_async(&mut self.link.redis.clone()).await?;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer {
                // A user without the right to write, or a server without memory, does not concern messages.
                Err(error) if at < messages.len() || is_demoted(&error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PrimaryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrimaryTransport").field("address", &self.address).finish_non_exhaustive()
    }
}
