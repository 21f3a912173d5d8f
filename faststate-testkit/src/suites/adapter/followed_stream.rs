//! A client that follows topics.

use faststate_core::{Elements, internal::Rendered};

use super::{ClientResponse, Failure, RawClient, ensure};
use crate::browser::page::BrowserPage;

/// An open stream and the page that merges it.
pub(super) struct FollowedStream {
    pub(super) answer: ClientResponse,
    pub(super) page: BrowserPage,
    /// All bytes that have arrived, as text.
    pub(super) text: String,
}

const PROMISE: &str = "a stream is a 200 that stays open";

impl FollowedStream {
    pub(super) async fn open(client: &mut RawClient, target: &str) -> Result<Self, Failure> {
        Self::resume(client, target, BrowserPage::new()).await
    }

    /// Opens a stream for a page that shows these elements.
    pub(super) async fn showing(client: &mut RawClient, target: &str, html: &str) -> Result<Self, Failure> {
        let shown = Rendered::View(Elements::outer(html), "{}".into());
        Self::resume(client, target, BrowserPage::showing(&[shown])?).await
    }

    /// Opens a stream for a page that has followed before.
    pub(super) async fn resume(
        client: &mut RawClient,
        target: &str,
        page: BrowserPage,
    ) -> Result<Self, Failure> {
        let mut answer = client.get(target).await?;
        if answer.status() != 200 {
            let text = answer.text().await?;
            return Err(Failure::new(
                PROMISE,
                format!("{target} was answered with {}: {text}", answer.status()),
            ));
        }
        Ok(Self { answer, page, text: String::new() })
    }

    /// Merges the next piece. Returns false at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<bool, Failure> {
        let Some(piece) = self.answer.piece().await? else { return Ok(false) };
        self.text.push_str(&String::from_utf8_lossy(&piece));
        self.page.feed(&piece)?;
        Ok(true)
    }

    /// Merges pieces until `holds` returns true for the page.
    pub(super) async fn until(&mut self, holds: impl Fn(&BrowserPage) -> bool + Send) -> Result<(), Failure> {
        while !holds(&self.page) {
            let is_open = self.next().await?;
            ensure!(is_open, PROMISE, "it ended after {}", self.text);
        }
        Ok(())
    }

    /// Merges pieces until the counter is `count`.
    pub(super) async fn until_count(&mut self, count: i64) -> Result<(), Failure> {
        self.until(|page| page.signals().get("counter").is_some_and(|counter| counter["count"] == count))
            .await
    }

    /// Merges pieces until an item has this name.
    pub(super) async fn until_name(&mut self, name: &str) -> Result<(), Failure> {
        let named = |item: &serde_json::Value| {
            item.as_object().is_some_and(|items| items.values().any(|item| item["name"] == name))
        };
        self.until(|page| page.signals().get("item").is_some_and(named)).await
    }

    /// Disconnects and returns the page.
    pub(super) fn leave(mut self) -> BrowserPage {
        self.page.cut();
        self.page
    }
}
