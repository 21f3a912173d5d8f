//! The spans and log lines of an event, from the request to the frames.

use faststate_testkit::CapturedLog;
use tracing::Level;

use super::app::{Increment, start};

#[tokio::test]
async fn log_follows_an_event_from_request_to_frames() {
    let log = CapturedLog::start(Level::DEBUG);

    let (registry, client) = start();
    let mut page = client.datastar();
    let mut stream = page.get("/faststate/sse?states=counter,counter.shown").await;
    stream.until("_v").await;
    log.line(&["stream: ", "opened", "counter"]);
    page.clone().with("faststate-event", "click-7").increment(1).await;
    for (what, more) in [("saved", "version="), ("frame", "followers=1"), ("accepted", "answer=Changed")] {
        let line = log.line(&[what, more, "id=click-7"]);
        let request = line.find("event{state=\"counter\" event=\"increment\" id=click-7}").unwrap();
        let turn = line.find("turn{key=").unwrap();
        assert!(request < turn, "the turn belongs to the request: {line}");
    }
    assert_eq!(log.text().matches(" frame ").count(), 2, "one per topic: {}", log.text());

    page.with("faststate-event", "click-8").increment(101).await;
    log.line(&["refused", "id=click-8", "at most <100>"]);
    log.line(&["event{", "id=click-8", "close", "time.busy"]);

    // The engine generates the id of an event that the application sends.
    registry.global().unwrap().send(Increment { amount: 1, user: String::new() }).await.unwrap();
    let text = log.text();
    let saved: Vec<_> = text.lines().filter(|line| line.contains("saved")).collect();
    let own = saved.last().unwrap();
    assert!(saved.len() == 2 && own.contains("turn{key=") && !own.contains("event{state"), "{saved:?}");
}

#[tokio::test]
async fn event_logs_nothing_at_the_info_level() {
    let log = CapturedLog::start(Level::INFO);
    let (_, mut client) = start();
    assert_eq!(client.increment(1).await.status(), 200);
    assert_eq!(log.text(), "");
}
