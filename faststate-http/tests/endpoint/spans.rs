//! The spans and log lines of an event, from the request to the frames.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::format::FmtSpan;

use super::app::{Increment, start};

#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Returns the first line that contains all of these parts.
    fn line(&self, contains: &[&str]) -> String {
        let text = self.text();
        let found = text.lines().find(|line| contains.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line has {contains:?} in:\n{text}")).to_owned()
    }
}

#[tokio::test]
async fn log_follows_an_event_from_request_to_frames() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());

    let (registry, client) = start();
    let mut page = client.datastar();
    let mut stream = page.get("/faststate/sse?states=counter,counter.shown").await;
    stream.until("_v").await;
    lines.line(&["stream: ", "opened", "counter"]);
    page.clone().with("faststate-event", "click-7").increment(1).await;
    for (what, more) in [("saved", "version="), ("frame", "followers=1"), ("accepted", "answer=Changed")] {
        let line = lines.line(&[what, more, "id=click-7"]);
        let request = line.find("event{state=\"counter\" event=\"increment\" id=click-7}").unwrap();
        let turn = line.find("turn{key=").unwrap();
        assert!(request < turn, "the turn belongs to the request: {line}");
    }
    assert_eq!(lines.text().matches(" frame ").count(), 2, "one per topic: {}", lines.text());

    page.with("faststate-event", "click-8").increment(101).await;
    lines.line(&["refused", "id=click-8", "at most <100>"]);
    lines.line(&["event{", "id=click-8", "close", "time.busy"]);

    // The engine generates the id of an event that the application sends.
    registry.global().unwrap().send(Increment { amount: 1, user: String::new() }).await.unwrap();
    let text = lines.text();
    let saved: Vec<_> = text.lines().filter(|line| line.contains("saved")).collect();
    let own = saved.last().unwrap();
    assert!(saved.len() == 2 && own.contains("turn{key=") && !own.contains("event{state"), "{saved:?}");
}

#[tokio::test]
async fn event_logs_nothing_at_the_info_level() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (_, mut client) = start();
    assert_eq!(client.increment(1).await.status(), 200);
    assert_eq!(lines.text(), "");
}
