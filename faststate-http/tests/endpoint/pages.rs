//! Pages, probes and the bundle.

use std::sync::Arc;

use faststate_core::Error;
use faststate_http::endpoint::{Bundle, Endpoint};
use http::Request;
use serde_json::json;

use super::app::{Client, Counter, Doorman, Note, Shown, Vault, endpoint, registry, start};

fn head(cookie: Option<&str>) -> http::request::Parts {
    let mut request = Request::builder().uri("/");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.body(()).unwrap().into_parts().0
}

#[tokio::test]
async fn page_contains_and_follows_its_topics() {
    let (registry, mut client) = start();
    client.increment(7).await;
    let page = client.endpoint.page(&head(None)).await.unwrap();
    assert!(page.set_cookie().is_some());
    assert_eq!(page.follow::<Counter>().await.unwrap().count, 7);
    assert_eq!(page.follow::<Note>().await.unwrap().text, "");
    assert_eq!(page.view::<Shown>().await.unwrap().html(), "<p id=\"shown\">7</p>");
    page.follow::<Counter>().await.unwrap();
    page.signal("step", 1).signal("__proto__", 1);
    let signals = page.signals();
    assert!(signals.contains("'count':7") && signals.contains("'step':1"), "{signals}");
    assert!(signals.contains("'_errors':{'counter':{},'note':{}}"), "{signals}");
    assert!(!signals.contains("__proto__") && !signals.contains(['"', '<', '&']), "{signals}");
    let action = page.follow_action();
    assert!(action.contains("'/faststate/sse?states=counter,note,counter.shown'"), "{action}");
    assert!(page.datastar_script().contains(Bundle::INTEGRITY));
    drop(registry);
}

#[tokio::test]
async fn follow_url_preserves_ids() {
    let registry = registry();
    let endpoint = endpoint(&registry, &Doorman::default());
    let mut parts = head(None);
    parts.headers.insert("x-user", "ann".parse().unwrap());
    let page = endpoint.page(&parts).await.unwrap();
    let id = "a/b,c:d.e %&'\"+\u{e9}";
    page.follow_id::<Vault>(id).await.unwrap();
    let action = page.follow_action();
    let url = action.split('\'').find(|part| part.starts_with("/faststate/sse")).unwrap();
    let mut keeper = Client::of(endpoint).with("x-user", "ann").with("datastar-request", "true");
    let mut answer = keeper.get(url).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.until("_v").await.contains("\"gold\":0"));
}

#[tokio::test]
async fn law_08_page_does_not_show_forbidden_topics() {
    let (_, client) = start();
    let page = client.endpoint.page(&head(None)).await.unwrap();
    assert!(matches!(page.follow_id::<Vault>("v1").await, Err(Error::Unknown)));
    assert!(matches!(page.follow_id::<Counter>("v1").await, Err(Error::Unknown)));
    assert!(!page.follow_action().contains("@get("), "nothing is followed");
    assert!(!page.signals().contains("gold"));
}

#[tokio::test]
async fn page_keeps_a_valid_session_and_replaces_an_invalid_one() {
    let (_, mut client) = start();
    client.increment(1).await;
    let page = client.endpoint.page(&head(client.cookie.as_deref())).await.unwrap();
    assert!(page.set_cookie().is_none());
    let page = client.endpoint.page(&head(Some("faststate=garbage"))).await.unwrap();
    assert!(page.set_cookie().is_some());
}

#[tokio::test]
async fn health_is_json() {
    let (_, mut client) = start();
    let stream = client.clone().get("/faststate/sse?states=counter").await;
    let answer = client.get("/faststate/health").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"));
    let health = answer.json().await;
    assert_eq!((&health["status"], &health["connections"]), (&json!("ok"), &json!(1)));
    assert!(health["stores"].is_array() && health["uptime"].is_u64(), "{health}");
    drop(stream);
    let health = client.get("/faststate/health").await.json().await;
    assert_eq!(health["connections"], 0);
}

#[tokio::test]
async fn bundle_of_the_cdn_is_not_served() {
    let mut client = Client::of(Endpoint::new(Arc::clone(&registry()) as _).datastar(Bundle::cdn()));
    assert_eq!(client.get("/faststate/datastar.js").await.status(), 404);
    assert_eq!(client.get("/faststate/nothing").await.status(), 404);
}

#[tokio::test]
async fn law_08_renewed_session_has_a_new_id() {
    let (_, client) = start();
    let pair = |cookie: &http::HeaderValue| cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let first = client.endpoint.page(&head(None)).await.unwrap();
    let cookie = pair(&first.set_cookie().unwrap());
    let page = client.endpoint.page(&head(Some(&cookie))).await.unwrap();
    assert!(page.set_cookie().is_none());
    let renewed = page.renew_session();
    let set = pair(&page.set_cookie().unwrap());
    assert_ne!(set, cookie);
    let next = client.endpoint.page(&head(Some(&set))).await.unwrap();
    assert_eq!(next.viewer().session_id(), Some(&renewed));
    assert_ne!(next.viewer().session_id(), first.viewer().session_id());
}

#[tokio::test]
async fn law_08_page_detects_requests_of_other_sites() {
    let (_, client) = start();
    let asked_by = async |name: &'static str, value: &str| {
        let mut parts = head(Some("faststate=x"));
        parts.headers.insert(name, value.parse().unwrap());
        parts.headers.insert("host", "here.example".parse().unwrap());
        client.endpoint.page(&parts).await.unwrap().same_site()
    };
    assert!(asked_by("sec-fetch-site", "same-origin").await);
    assert!(asked_by("origin", "http://here.example").await);
    assert!(!asked_by("sec-fetch-site", "cross-site").await);
    assert!(!asked_by("origin", "http://there.example").await);
    assert!(!asked_by("x-nothing", "").await, "a cookie without evidence");
}

/// A payment provider returns the user with a POST, to which the browser adds no Lax cookie.
#[tokio::test]
async fn law_08_cross_site_post_is_anonymous_and_sets_no_cookie() {
    let (_, client) = start();
    let visited_by = async |method: &str, site: &str| {
        let mut parts = head(None);
        parts.method = method.parse().unwrap();
        parts.headers.insert("sec-fetch-site", site.parse().unwrap());
        client.endpoint.page(&parts).await.unwrap()
    };
    let page = visited_by("POST", "cross-site").await;
    assert!(page.set_cookie().is_none() && !page.same_site());
    assert_eq!(page.follow::<Note>().await.unwrap().text, "", "a handler can read it");
    let _ = page.renew_session();
    assert!(page.set_cookie().is_none(), "a renewed session sets none either");
    assert!(visited_by("GET", "cross-site").await.set_cookie().is_some(), "a link was followed");
    assert!(visited_by("POST", "same-origin").await.set_cookie().is_some());
}
