//! The stream of a browser's page.

use std::{future::poll_fn, pin::Pin, task::Poll};

use bytes::Bytes;
use faststate_core::internal::TopicName;
use faststate_http::endpoint::ReplyBody;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::{
    task::unconstrained,
    time::{Instant, timeout_at},
};

use super::{act::in_query, client::BrowserClient};

/// The stream that a page follows, and the connection that carries it.
#[derive(Default)]
pub(super) struct PageStream {
    /// The URL that the page follows.
    url: Option<String>,
    body: Option<ReplyBody>,
}

/// The result of waiting for a stream.
pub(super) enum StreamWait {
    Piece(Bytes),
    /// The connection has ended, or carried no data.
    Ended,
    TimedOut,
}

impl PageStream {
    pub(super) fn new(url: Option<String>) -> Self {
        Self { url, body: None }
    }

    /// The URL that the page follows, unless Datastar has stopped following it.
    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The topics that the page follows.
    pub(super) fn topics(&self) -> Vec<TopicName> {
        self.url().map(topics_of).unwrap_or_default()
    }

    pub(super) const fn is_open(&self) -> bool {
        self.body.is_some()
    }

    /// Opens a connection that resumes from these cursors.
    pub(super) async fn open(&mut self, client: &BrowserClient, cursors: &Value) {
        let Some(url) = &self.url else { return };
        let mut request = Request::new(Full::<Bytes>::default());
        let uri = in_query(url, &cursors.to_string());
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}"));
        let response = client.send(request).await;
        match response.status() {
            StatusCode::OK => self.body = Some(response.into_body()),
            // Datastar stops reconnecting.
            StatusCode::NO_CONTENT => self.url = None,
            _ => {}
        }
    }

    /// Ends the connection.
    pub(super) fn close(&mut self) {
        self.body = None;
    }

    /// Returns the next piece that has arrived. Returns `None` if there is none, and closes a connection that has ended.
    pub(super) async fn arrived(&mut self) -> Option<Bytes> {
        let body = self.body.as_mut()?;
        // An exhausted task budget would look like an idle stream.
        let polled = unconstrained(poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *body).poll_frame(cx) {
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

    /// Waits for the next piece of an open connection.
    pub(super) async fn wait(&mut self, deadline: Instant) -> StreamWait {
        let Some(body) = &mut self.body else { return StreamWait::Ended };
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => StreamWait::Piece(frame.into_data().unwrap_or_default()),
            Ok(_) => {
                self.close();
                StreamWait::Ended
            }
            Err(_) => StreamWait::TimedOut,
        }
    }
}

/// Parses the topics in a stream's URL.
fn topics_of(url: &str) -> Vec<TopicName> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let states = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "states");
    let states = states.map(|(_, states)| states.into_owned()).unwrap_or_default();
    states.split(',').filter_map(|topic| topic.parse().ok()).collect()
}
