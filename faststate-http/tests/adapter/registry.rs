//! A registry without an access check for streams.

use std::{
    any::{Any, TypeId},
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use faststate_core::{
    Error, Health, Key, Registry, Revocation, StateRegistry, Version, Viewer,
    internal::{Engine, Follower, Instances, NewSessions, Part, Rendered, Route, StreamRevoker, TopicName},
    registry::{Call, MessageAction, Outcome, StateSnapshot, UnfinishedMessage},
};

/// Follows topics for every viewer. It checks access for events only.
#[derive(Debug)]
pub(crate) struct UnguardedFollow(pub(crate) Arc<StateRegistry>);

#[async_trait]
impl Registry for UnguardedFollow {
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error> {
        self.0.key(state, viewer, id)
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.0.allows(key, viewer)
    }

    async fn dispatch(&self, call: Call) -> Result<Outcome, Error> {
        self.0.dispatch(call).await
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        self.0.read(key).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.0.revoke(revocation).await
    }

    async fn health(&self) -> Health {
        self.0.health().await
    }

    async fn settle(&self) {
        self.0.settle().await;
    }

    async fn leave(&self) {
        self.0.leave().await;
    }

    fn engine(&self) -> &dyn Engine {
        self
    }
}

#[async_trait]
impl Engine for UnguardedFollow {
    fn report_mistake(&self, state: &str, has_id: bool, part: Part<'_>) {
        self.0.engine().report_mistake(state, has_id, part);
    }

    fn routes(&self) -> Vec<Route> {
        self.0.engine().routes()
    }

    fn instances(&self, state: &str) -> Result<&dyn Instances, Error> {
        self.0.engine().instances(state)
    }

    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error> {
        self.0.engine().visible(topic, viewer).await
    }

    async fn follow(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
        cursor: Option<Version>,
        stream: u64,
    ) -> Result<Follower, Error> {
        let keeper = viewer.clone().with_role("keeper");
        self.0.engine().follow(topic, &keeper, cursor, stream).await
    }

    async fn unfinished_messages(&self, limit: usize) -> Result<Vec<UnfinishedMessage>, Error> {
        self.0.engine().unfinished_messages(limit).await
    }

    async fn resolve_message(&self, sender: &Key, id: &str, action: MessageAction) -> Result<(), Error> {
        self.0.engine().resolve_message(sender, id, action).await
    }

    fn resource(&self, kind: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        self.0.engine().resource(kind)
    }

    fn followers(&self, key: &Key) -> usize {
        self.0.engine().followers(key)
    }

    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>) {
        self.0.engine().register_revoker(revoker);
    }

    fn new_sessions(&self) -> Arc<NewSessions> {
        self.0.engine().new_sessions()
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.0.engine().is_stale(key)
    }
}
