//! The stream of a browser's page.

use std::{
    future::{Future, poll_fn},
    panic::Location,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use faststate_core::{Version, internal::TopicName};
use faststate_http::endpoint::Endpoint;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    task::unconstrained,
    time::{Instant, sleep, timeout_at},
};

use super::{Browser, WAIT_TIMEOUT, act::in_query, datastar};

/// The pause between two polls of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

impl Browser {
    /// Hides the window. The stream is closed, and the page keeps its content.
    pub fn hide(&mut self) {
        self.hidden = true;
        self.close();
    }

    /// Shows the window again. The page resumes from its cursors.
    pub async fn show(&mut self) {
        self.hidden = false;
        self.connect().await;
    }

    /// Breaks the connection and resumes from the page's cursors. Unread bytes are lost.
    pub async fn reconnect(&mut self) {
        self.close();
        self.connect().await;
    }

    /// Breaks the connection after `bytes` more of the bytes that have arrived, even in the middle of a frame. The page has no
    /// stream until [`reconnect`](Self::reconnect), [`read`](Self::read) or [`settle`](Self::settle) opens one.
    ///
    /// # Panics
    /// Panics if the bytes before that cannot be merged.
    pub async fn disconnect_mid_frame(&mut self, mut bytes: usize) {
        while let Some(piece) = self.piece().await {
            let kept = piece.len().min(bytes);
            self.feed(&piece[..kept]);
            bytes -= kept;
            if bytes == 0 {
                break;
            }
        }
        self.close();
    }

    /// Returns whether the page has an open stream.
    #[must_use]
    pub const fn is_following(&self) -> bool {
        self.stream.is_some()
    }

    /// Waits until every event that any node has accepted is complete, including its work after the commit, and merges the
    /// stream. A stream that has ended is opened again, as Datastar does.
    ///
    /// # Panics
    /// Panics after 20 s.
    #[track_caller]
    pub fn settle(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            loop {
                let nodes = self.nodes();
                for node in &nodes {
                    let settled = timeout_at(deadline, node.registry().settle()).await;
                    assert!(
                        settled.is_ok(),
                        "at {at}: work after a commit is still running: wait with `sees`"
                    );
                }
                let agreed = self.nodes_agree(&nodes).await;
                self.read().await;
                let follows = self.hidden || self.follow.is_none() || self.stream.is_some();
                if agreed.is_ok() && follows {
                    return;
                }
                assert!(
                    Instant::now() < deadline,
                    "at {at}: not settled within {WAIT_TIMEOUT:?}: {}",
                    agreed.err().unwrap_or_else(|| "the stream cannot be opened".to_owned())
                );
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Merges all bytes that have arrived. Returns the number of pieces.
    ///
    /// # Panics
    /// Panics if the bytes cannot be merged.
    pub async fn read(&mut self) -> usize {
        let mut pieces = 0;
        if self.stream.is_none() && !self.hidden {
            self.connect().await;
        }
        while let Some(piece) = self.piece().await {
            self.feed(&piece);
            pieces += 1;
        }
        pieces
    }

    /// Waits for the next piece and merges it. Reopens a stream that has ended. Returns false at the deadline.
    pub(super) async fn next(&mut self, deadline: Instant) -> bool {
        let Some(stream) = &mut self.stream else {
            sleep(POLL_INTERVAL).await;
            if !self.hidden {
                self.connect().await;
            }
            return Instant::now() < deadline;
        };
        match timeout_at(deadline, stream.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    self.feed(&piece);
                }
                true
            }
            Ok(_) => {
                self.close();
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.page.cut();
    }

    pub(super) async fn connect(&mut self) {
        let Some(follow) = self.follow.clone().filter(|_| !self.hidden) else { return };
        let mut request = Request::new(Full::<Bytes>::default());
        let uri = in_query(&follow, &self.page.cursors().to_string());
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}"));
        let mut request = self.request(request, "same-origin");
        datastar(&mut request);
        let response = self.respond_to(request).await;
        match response.status() {
            StatusCode::OK => self.stream = Some(response.into_body()),
            // Datastar stops reconnecting.
            StatusCode::NO_CONTENT => self.follow = None,
            _ => {}
        }
    }

    /// Returns the next piece that has arrived, if any.
    async fn piece(&mut self) -> Option<Bytes> {
        let stream = self.stream.as_mut()?;
        // An exhausted task budget would look like an idle stream.
        let polled = unconstrained(poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *stream).poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        }));
        match polled.await? {
            Some(Ok(frame)) => frame.into_data().ok(),
            _ => {
                self.close();
                None
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.page.feed(bytes).unwrap_or_else(|failure| panic!("{failure}"));
    }

    pub(super) fn nodes(&self) -> Vec<Endpoint> {
        if self.app.nodes.is_empty() { vec![self.app.endpoint().clone()] } else { self.app.nodes.clone() }
    }

    /// Checks that this page's node has the same versions as all other nodes. An instance that was never saved has a
    /// different epoch on each node.
    async fn nodes_agree(&self, nodes: &[Endpoint]) -> Result<(), String> {
        if nodes.len() < 2 || self.hidden {
            return Ok(());
        }
        for topic in &self.topics {
            let Some(here) = self.version(self.app.endpoint(), topic).await else { continue };
            for node in nodes {
                let there = self.version(node, topic).await;
                let differs = |there: &Version| *there != here && (there.seq, here.seq) != (0, 0);
                if there.as_ref().is_some_and(differs) {
                    return Err(format!("this node has {topic} at {here}, another node differs"));
                }
            }
        }
        Ok(())
    }

    async fn version(&self, node: &Endpoint, topic: &TopicName) -> Option<Version> {
        let request = self.request(Request::new(()), "same-origin");
        let visitor = node.visitor(&request.into_parts().0).await.ok()?;
        let key = node.registry().key(&topic.state, visitor.viewer(), topic.id.as_deref()).ok()?;
        let snapshot = node.registry().read(&key).await.ok()?;
        (!snapshot.stale).then_some(snapshot.version)
    }
}
