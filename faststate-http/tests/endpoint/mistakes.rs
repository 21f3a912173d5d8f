//! Mistakes in an application's names: the browser gets a 404, and the log names the fix once.

use faststate_core::{Elements, Error, ReactiveState, View, Viewer};
use faststate_testkit::CapturedLog;
use http::Request;
use serde::{Deserialize, Serialize};
use tracing::Level;

use super::app::{Counter, Shown, Vault, start};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Unregistered {}

impl ReactiveState for Unregistered {
    const NAME: &'static str = "unregistered";
}

struct Gold;

impl View for Gold {
    type State = Vault;
    const NAME: &'static str = "gold";

    fn render(&self, _: &Vault) -> Elements {
        Elements::outer("<p id=\"gold\"></p>")
    }
}

#[tokio::test]
async fn mistake_is_a_404_and_one_warning_with_the_fix() {
    let log = CapturedLog::start(Level::WARN);
    let (registry, mut client) = start();
    let parts = Request::builder().uri("/").header("x-user", "ann").body(()).unwrap().into_parts().0;
    let page = client.endpoint.page(&parts).await.unwrap();

    for _ in 0..2 {
        assert!(matches!(page.follow::<Unregistered>().await, Err(Error::Unknown)));
        assert!(matches!(page.follow::<Vault>().await, Err(Error::Unknown)));
        assert!(matches!(page.view::<Gold>().await, Err(Error::Unknown)));
        assert!(matches!(page.view_id::<Shown>("1").await, Err(Error::Unknown)));
        assert!(matches!(registry.record::<Counter>("1"), Err(Error::Unknown)));
        for path in [
            "/faststate/unregistered/anything",
            "/faststate/note/unlisted",
            "/faststate/vault/deposit",
            "/faststate/counter/1/increment",
        ] {
            assert_eq!(client.post(path, "{}").await.status(), 404, "{path}");
        }
    }
    let text = log.text();
    for remedy in [
        "the state `unregistered` is not registered: add `.state::<..>(..)`",
        "the state `vault` needs an id: call `follow_id`",
        "the view `gold` of the state `vault` is not registered: add `.view(..)`",
        "the view `shown` of the state `counter` has no ids: call `view`",
        "the state `counter` has no ids: call `follow`, or `global` for a handle",
        "the event `unlisted` of the state `note` is not registered: add `.event(..)`",
        "the event `deposit` of the state `vault` was sent without an id: call `.on(id)`",
        "the event `increment` of the state `counter` was sent with an id",
    ] {
        assert_eq!(text.matches(remedy).count(), 1, "{remedy} in:\n{text}");
    }

    // A record that does not exist or that the viewer may not see is not a mistake.
    let before = log.text();
    assert!(page.follow_id::<Vault>("none").await.is_err());
    client.post("/faststate/vault/1/deposit", r#"{"gold":1}"#).await;
    assert!(registry.handle::<Vault>(&Viewer::application(), Some("none")).is_ok());
    assert_eq!(log.text(), before);

    // Paths come from clients, so the number of warnings is bounded.
    for at in 0..200 {
        client.post(&format!("/faststate/made_up/event_{at}"), "{}").await;
        client.post(&format!("/faststate/note/made_up_{at}"), "{}").await;
    }
    assert!(log.text().lines().count() <= 64, "{}", log.text());
}
