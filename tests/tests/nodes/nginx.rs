//! Three nodes behind nginx, which distributes requests freely.

use std::time::{Duration, Instant};

use faststate_tests::{Demo, Nginx, Page, Session, http};
use serde_json::json;
use tokio::task::block_in_place;

use crate::cluster::{Cluster, Server, until};

/// Clicks again and again, and counts the clicks. Three may be on their way: what a busy machine cannot take within
/// 2 s it refuses.
const CLICKS: &str = "
    window.clicks = window.waiting = window.repeats = 0;
    document.addEventListener('datastar-fetch', ({ detail }) => {
        if (detail.el.tagName != 'FORM') return;
        window.waiting -= detail.type == 'finished';
        window.repeats += detail.type == 'retrying';
    });
    window.clicking = setInterval(() => {
        if (window.waiting == 3) return;
        window.waiting += 1;
        window.clicks += 1;
        document.querySelector('#increment').click();
    }, 60);
";
const STOP: &str = "clearInterval(window.clicking), window.clicks";
const PAGES: usize = 4;

fn behind(cluster: &Cluster) -> Nginx {
    let nodes = cluster.addresses();
    Nginx::before([nodes[0], nodes[1], nodes[2]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_three_nodes_on_redis_behind_nginx_are_restarted_and_no_page_needs_a_reload() {
    restart(Server::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_three_nodes_on_postgres_behind_nginx_are_restarted_and_no_page_needs_a_reload() {
    restart(Server::postgres()).await;
}

async fn restart(server: Server) {
    let mut cluster = Cluster::start(server);
    let nginx = behind(&cluster);
    // Each is a separate client with its own cookies and connections.
    let pages: Vec<Page> =
        block_in_place(|| (0..PAGES).map(|_| Session::new().open(&nginx.url("/counter"))).collect());
    block_in_place(|| pages.iter().for_each(|page| drop(page.eval(CLICKS))));
    let started = Instant::now();
    for node in &mut cluster.nodes {
        block_in_place(|| {
            pages[0].until("window.clicks > (window.before ?? 0) + 20 && (window.before = window.clicks)");
            let ended = node.demo.terminate();
            assert!(ended.success(), "{ended}");
            node.demo.restart();
        });
    }
    block_in_place(|| pages[0].until("window.clicks > window.before + 20"));
    let took = started.elapsed();
    let clicks = block_in_place(|| pages.iter().map(|page| page.eval(STOP).as_u64().unwrap()).sum::<u64>());
    let shown = async || {
        let total = clicks.to_string();
        block_in_place(|| pages.iter().all(|page| page.text("#count").is_some_and(|shown| shown == total)))
    };
    let what = format!("every page shows every click, {clicks} of them");
    let late = until(&what, Duration::from_secs(30), shown).await;
    block_in_place(|| {
        for page in &pages {
            page.shows("#update-count", &clicks.to_string());
            assert!(page.eval("window.clicks").is_u64(), "a page was loaded again");
        }
    });
    // While the last node is down, nginx may still avoid the others, and responds with 502.
    let repeats =
        block_in_place(|| pages.iter().filter_map(|page| page.eval("window.repeats").as_u64()).sum::<u64>());
    let (_, counter) = cluster.counter().await;
    assert_eq!((&counter["count"], &counter["update_count"]), (&clicks.into(), &clicks.into()));
    eprintln!(
        "three nodes restarted behind nginx in {took:?} while {PAGES} pages clicked {clicks} times and repeated \
         {repeats}; the last click was shown everywhere {late:?} after it; nginx said {} lines",
        nginx.log().lines().count()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_03_a_click_while_nginx_finds_no_node_arrives_once() {
    let mut cluster = Cluster::start(Server::redis());
    let nginx = behind(&cluster);
    block_in_place(|| {
        let page = Session::new().open(&nginx.url("/counter"));
        page.expect_complaints(&["502", "ERR_INCOMPLETE_CHUNKED_ENCODING"]);
        page.shows(".link [data-text]", "Connected");
        cluster.nodes.iter_mut().for_each(|node| node.demo.kill());
        page.click("#increment");
        page.shows(
            "#unsent:not([hidden])",
            "A change has not reached the server yet. It is being sent again.",
        );
        assert!(nginx.log().contains("POST /faststate/counter/increment"), "{}", nginx.log());
        cluster.nodes[0].demo.restart();
        page.shows("#count", "1");
        page.shows("#update-count", "1");
        page.until("document.querySelector('#unsent').hidden");
    });
    assert_eq!(cluster.counter().await.1["count"], 1);
}

/// One browser with more windows than HTTP/1.1 connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_windows_of_one_browser_follow_at_once_over_http_2() {
    let cluster = Cluster::start(Server::redis());
    let nodes = cluster.addresses();
    block_in_place(|| {
        let nginx = Nginx::with_http2_before([nodes[0], nodes[1], nodes[2]]);
        let session = Session::new();
        let open = || {
            let page = session.window();
            page.call("Security.setIgnoreCertificateErrors", &json!({ "ignore": true }));
            page.goto(&nginx.url("/counter"));
            page
        };
        let pages: Vec<Page> = (0..9).map(|_| open()).collect();
        for (at, page) in pages.iter().enumerate() {
            let protocol = page.eval("performance.getEntriesByType('navigation')[0].nextHopProtocol");
            assert_eq!(protocol, "h2");
            page.click("#increment");
            for page in &pages {
                page.shows("#count", &(at + 1).to_string());
            }
        }
        let followers = |demo: &Demo| demo.health()["connections"].as_u64().unwrap_or_default();
        let spread: Vec<_> = cluster.nodes.iter().map(|node| followers(&node.demo)).collect();
        assert!(spread.iter().all(|streams| *streams > 0), "{spread:?}");
        eprintln!("nine windows followed over one HTTP/2 connection, on nodes with {spread:?} streams");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_03_an_event_without_an_id_gets_one_from_nginx_and_reaches_a_node_that_is_there() {
    let mut cluster = Cluster::start(Server::redis());
    let nginx = behind(&cluster);
    let post = || {
        let asked = Instant::now();
        let answer = http::exchange(nginx.address(), "POST", "/faststate/counter/increment", "", b"");
        (answer.map_or(0, |answer| answer.status), asked.elapsed())
    };
    block_in_place(|| {
        for _ in 0..6 {
            assert_eq!(post().0, 200);
        }
        cluster.nodes[0].demo.kill();
        cluster.nodes[1].demo.kill();
        for _ in 0..6 {
            let (status, took) = post();
            assert_eq!(status, 200, "{}", nginx.log());
            assert!(took < Duration::from_secs(10), "{took:?}");
        }
    });
    assert_eq!(cluster.counter().await.1["count"], 12);
}
