//! A page that follows one topic, without a browser.

use std::{future::poll_fn, sync::Arc, time::Duration};

use faststate_core::{
    Key, Registry, StateRegistry, Version, Viewer,
    internal::{Follower, TopicName},
};
use faststate_testkit::page::BrowserPage;
use serde_json::Value;
use tokio::time::timeout;

/// The deadline of an expected frame.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// A page that follows one topic.
pub(crate) struct Window {
    page: BrowserPage,
    topic: TopicName,
    key: Key,
    follower: Option<Follower>,
}

impl Window {
    /// Renders a topic and follows it.
    pub(crate) async fn open(registry: &Arc<StateRegistry>, topic: TopicName) -> Self {
        let viewer = Viewer::application();
        let mut page = BrowserPage::new();
        page.show(&registry.engine().visible(&topic, &viewer).await.unwrap()).unwrap();
        let key = registry.key(&topic.state, &viewer, topic.id.as_deref()).unwrap();
        let mut window = Self { page, topic, key, follower: None };
        window.connect(registry).await;
        window
    }

    /// Follows from the page's cursor.
    pub(crate) async fn connect(&mut self, registry: &Arc<StateRegistry>) {
        self.disconnect();
        let follower =
            registry.engine().follow(&self.topic, &Viewer::application(), Some(self.cursor()), 1).await;
        self.follower = Some(follower.unwrap());
    }

    pub(crate) fn disconnect(&mut self) {
        self.follower = None;
        self.page.cut();
    }

    /// The version that the page shows.
    pub(crate) fn cursor(&self) -> Version {
        self.page.cursor(&self.key, None).unwrap()
    }

    /// Merges frames until the page shows this state; panics if an older version follows a newer one.
    pub(crate) async fn shows(&mut self, state: &Value) {
        let follower = self.follower.as_mut().expect("it follows");
        while let Err(difference) = self.page.follows(&self.key, state) {
            let frames = timeout(FRAME_TIMEOUT, poll_fn(|cx| follower.poll_frames(cx, false))).await;
            let frames = frames.unwrap_or_else(|_| panic!("nothing more comes: {difference}"));
            self.page.feed(&frames.unwrap()).unwrap();
        }
    }
}
