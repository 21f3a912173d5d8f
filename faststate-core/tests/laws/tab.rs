//! A browser tab: a page, and the followers of the stream that feeds it.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use faststate_core::{
    Error, Key, ReactiveState, Registry, StateRegistry, Store, Version, View, Viewer,
    internal::{Follower, TopicName},
};
use faststate_testkit::{Failure, page::BrowserPage};

use crate::board::{Board, Lines, Title};

pub(crate) struct Tab {
    pub(crate) page: BrowserPage,
    pub(crate) viewer: Viewer,
    pub(crate) key: Key,
    pub(crate) topics: Vec<TopicName>,
    followers: Vec<Follower>,
}

impl Tab {
    /// Opens a tab that shows and follows these topics of one key.
    pub(crate) async fn open(registry: &Arc<StateRegistry>, viewer: &Viewer, topics: &[&str]) -> Self {
        let mut tab = Self::rendered(registry, viewer, topics).await;
        tab.connect(registry).await;
        tab
    }

    /// Renders a page that does not follow its topics yet.
    pub(crate) async fn rendered(registry: &Arc<StateRegistry>, viewer: &Viewer, topics: &[&str]) -> Self {
        let topics: Vec<TopicName> = topics.iter().map(|topic| topic.parse().unwrap()).collect();
        let mut page = BrowserPage::new();
        for topic in &topics {
            page.show(&registry.engine().visible(topic, viewer).await.unwrap()).unwrap();
        }
        let key = registry.key(&topics[0].state, viewer, topics[0].id.as_deref()).unwrap();
        Self { page, viewer: viewer.clone(), key, topics, followers: Vec::new() }
    }

    /// Follows the topics from the page's cursors.
    pub(crate) async fn connect(&mut self, registry: &Arc<StateRegistry>) {
        self.connect_at(registry, |tab, view| tab.cursor(view)).await;
    }

    /// Follows the topics from the page's cursors, unless the node refuses.
    pub(crate) async fn try_connect(&mut self, registry: &Arc<StateRegistry>) -> Result<(), Error> {
        self.disconnect();
        let stream = rand::random();
        for topic in &self.topics {
            let cursor = self.cursor(topic.view.as_deref());
            self.followers.push(registry.engine().follow(topic, &self.viewer, cursor, stream).await?);
        }
        Ok(())
    }

    /// Follows the topics from other cursors.
    pub(crate) async fn connect_at(
        &mut self,
        registry: &Arc<StateRegistry>,
        cursor: impl Fn(&Self, Option<&str>) -> Option<Version>,
    ) {
        static STREAM: AtomicU64 = AtomicU64::new(0);
        self.disconnect();
        let stream = STREAM.fetch_add(1, Ordering::Relaxed);
        for topic in self.topics.clone() {
            let cursor = cursor(self, topic.view.as_deref());
            let follower = registry.engine().follow(&topic, &self.viewer, cursor, stream).await.unwrap();
            self.followers.push(follower);
        }
    }

    pub(crate) fn disconnect(&mut self) {
        self.followers.clear();
        self.page.cut();
    }

    pub(crate) fn cursor(&self, view: Option<&str>) -> Option<Version> {
        self.page.cursor(&self.key, view)
    }

    /// Merges all pieces that are available now. Returns their number.
    pub(crate) fn read(&mut self) -> usize {
        let mut pieces = 0;
        while let Some(piece) = self.piece() {
            self.page.feed(&piece).unwrap();
            pieces += 1;
        }
        pieces
    }

    /// Returns the next piece, if one is available now.
    pub(crate) fn piece(&mut self) -> Option<Bytes> {
        let ids = self.followers.len() == 1;
        let mut cx = Context::from_waker(Waker::noop());
        self.followers.iter_mut().find_map(|follower| match follower.poll_frames(&mut cx, ids) {
            Poll::Ready(piece) => Some(piece.unwrap()),
            Poll::Pending => None,
        })
    }

    /// Waits for the next piece.
    pub(crate) async fn next(&mut self) -> Bytes {
        let ids = self.followers.len() == 1;
        let followers = &mut self.followers;
        let piece = poll_fn(|cx| {
            followers
                .iter_mut()
                .find_map(|follower| match follower.poll_frames(cx, ids) {
                    Poll::Ready(piece) => Some(Poll::Ready(piece.unwrap())),
                    Poll::Pending => None,
                })
                .unwrap_or(Poll::Pending)
        });
        tokio::time::timeout(Duration::from_secs(20), piece).await.expect("no piece arrived")
    }

    /// Checks that the page shows this board.
    pub(crate) fn shows(&self, board: &Board) -> Result<(), Failure> {
        for topic in &self.topics {
            let expected = match topic.view.as_deref() {
                None => {
                    self.page.follows(&self.key, &serde_json::to_value(board).unwrap())?;
                    continue;
                }
                Some(Lines::NAME) => Lines.render(board),
                Some(_) => Title.render(board),
            };
            let lines = |html: &str| html.replace("\r\n", "\n");
            let (html, expected) = (lines(&self.page.html()), lines(expected.html()));
            if !html.contains(&expected) {
                return Err(Failure::new("a view shows the truth", format!("{html} is not {expected}")));
            }
        }
        Ok(())
    }

    /// Merges pieces until the page shows the stored state.
    pub(crate) async fn catches_up(&mut self, store: &impl Store) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            self.read();
            let record = store.load(&self.key, None).await.unwrap().record;
            let truth =
                record.map(|record| serde_json::from_slice(&record.data).unwrap()).unwrap_or_default();
            let Err(failure) = self.shows(&truth) else { return };
            assert!(tokio::time::Instant::now() < deadline, "{failure}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Checks that the page shows the signals of this state.
    pub(crate) fn follows<S: ReactiveState>(&self, state: &S) {
        self.page.follows(&self.key, &serde_json::to_value(state).unwrap()).unwrap();
    }
}
