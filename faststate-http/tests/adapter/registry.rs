//! A registry without an access check for streams.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use faststate_core::{
    Error, Health, Key, Registry, Revocation, StateRegistry, Version, Viewer,
    registry::{Call, Job, Outcome, Rendered, Route, StateSnapshot, StreamRevoker, TopicName},
    topics::Follower,
};

/// Follows topics for every viewer. It checks access for events only.
#[derive(Debug)]
pub(crate) struct UnguardedFollow(pub(crate) Arc<StateRegistry>);

#[async_trait]
impl Registry for UnguardedFollow {
    fn key(&self, state: &str, viewer: &Viewer, id: Option<&str>) -> Result<Key, Error> {
        self.0.key(state, viewer, id)
    }

    fn routes(&self) -> Vec<Route> {
        self.0.routes()
    }

    async fn dispatch(&self, call: Call) -> Result<Outcome, Error> {
        self.0.dispatch(call).await
    }

    async fn run(&self, key: &Key, job: Job) -> Result<Outcome, Error> {
        self.0.run(key, job).await
    }

    async fn read(&self, key: &Key) -> Result<StateSnapshot, Error> {
        self.0.read(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.0.delete(key).await
    }

    fn allows(&self, key: &Key, viewer: &Viewer) -> bool {
        self.0.allows(key, viewer)
    }

    async fn visible(&self, topic: &TopicName, viewer: &Viewer) -> Result<Rendered, Error> {
        self.0.visible(topic, viewer).await
    }

    async fn follow(
        &self,
        topic: &TopicName,
        viewer: &Viewer,
        cursor: Option<Version>,
        stream: u64,
    ) -> Result<Follower, Error> {
        let keeper = viewer.clone().with_role("keeper");
        self.0.follow(topic, &keeper, cursor, stream).await
    }

    fn followers(&self, key: &Key) -> usize {
        self.0.followers(key)
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.0.revoke(revocation).await
    }

    fn register_revoker(&self, revoker: Weak<dyn StreamRevoker>) {
        self.0.register_revoker(revoker);
    }

    fn is_stale(&self, key: &Key) -> bool {
        self.0.is_stale(key)
    }

    async fn health(&self) -> Health {
        self.0.health().await
    }

    async fn settle(&self) {
        self.0.settle().await;
    }
}
