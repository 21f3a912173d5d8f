//! The demo's next version, whose counter has a raised `SCHEMA` and a new field, replaces the demo one node after
//! the other, while both are used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use faststate_core::Store;
use faststate_tests::{Nginx, Page, Session, http};
use futures::future::join_all;
use tokio::{
    task::{JoinHandle, block_in_place},
    time::{Instant, sleep},
};

use crate::{
    cluster::{Cluster, Server, stored, until},
    user::{Follower, Tally, Writer},
};

/// The time within which all pages agree, with a margin for a busy machine.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_the_next_version_replaces_the_demo_on_redis_and_nothing_it_wrote_is_lost() {
    deploy(Server::redis()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_01_the_next_version_replaces_the_demo_on_postgres_and_nothing_it_wrote_is_lost() {
    deploy(Server::postgres()).await;
}

async fn deploy(server: Server) {
    let mut cluster = Cluster::start(server);
    let nodes = cluster.addresses();
    let nginx = Nginx::before([nodes[0], nodes[1], nodes[2]]);
    let enough = Arc::<AtomicBool>::default();
    let writers: Vec<_> = (0..6).map(|task| write(Writer::new(nodes.clone(), task), task, &enough)).collect();
    let mut followers: Vec<_> = (0..12).map(|at| Follower::start(vec![nodes[at % 3]], false)).collect();
    let pages: Vec<Page> =
        block_in_place(|| (0..2).map(|_| Session::new().open(&nginx.url("/counter"))).collect());
    block_in_place(|| {
        for page in &pages {
            // From the killed node.
            page.expect_complaints(&["ERR_INCOMPLETE_CHUNKED_ENCODING"]);
            page.eval("window.stays = true");
        }
    });
    let witness = tokio::spawn(witness(cluster.store().await, Arc::clone(&enough)));

    let mut by_hand = 0;
    let started = Instant::now();
    for slot in 0..3 {
        sleep(Duration::from_millis(500)).await;
        let node = &mut cluster.nodes[slot].demo;
        let ended = block_in_place(|| node.terminate());
        assert!(ended.success(), "{ended}");
        block_in_place(|| node.upgrade());
        Writer::new(vec![nodes[slot]], 0).increment(&format!("by-hand-{slot}")).await;
        by_hand += 1;
        if slot == 1 {
            // Each of the two versions once: what it had saved is there, and it does not mistake what it finds.
            for killed in [1, 2] {
                block_in_place(|| cluster.nodes[killed].demo.kill());
                block_in_place(|| cluster.nodes[killed].demo.restart());
            }
        }
        if slot < 2 {
            // The older version still shows the state that it must not change any more.
            let (refused, page) = block_in_place(|| {
                let refused = http::post(nodes[2], "/faststate/counter/increment", "{}").unwrap();
                (refused, http::get(nodes[2], "/counter").unwrap())
            });
            assert_eq!((refused.status, page.status), (503, 200), "{}", refused.text());
            let reason = "a newer version of the application wrote this state";
            assert!(refused.text().contains(reason), "{}", refused.text());
        }
    }
    let took = started.elapsed();
    enough.store(true, Ordering::SeqCst);
    let (mut sent, mut again) = (by_hand, 0);
    for writer in join_all(writers).await {
        let (count, tally) = writer.unwrap();
        (sent, again) = (sent + count, again + tally.failures);
    }
    let looks = witness.await.unwrap();

    let (version, counter) = cluster.counter().await;
    assert_eq!((&counter["count"], &counter["update_count"]), (&sent.into(), &sent.into()));
    let agree = async || {
        for follower in &mut followers {
            follower.check().await;
        }
        followers.iter().all(|follower| follower.shows(version, &counter))
    };
    let agreed = until("all followers show the truth", AGREEMENT_TIMEOUT, agree).await;
    block_in_place(|| {
        for page in &pages {
            page.shows("#count", &sent.to_string());
            assert!(page.eval("window.stays") == true, "a page was loaded again");
        }
        // As before, and through a node of the next version, since there is no other.
        pages[0].click("#increment");
        pages[1].shows("#count", &(sent + 1).to_string());
    });
    let (record, counter) = stored(&*cluster.store().await).await;
    eprintln!(
        "the next version replaced the demo on three nodes in {took:?}: {sent} events, {} of them by \
         the next version, {again} sent again; looked at {looks} times; followers agreed {agreed:?} after the last",
        counter["by_next"]
    );
    assert_eq!((record.schema, &counter["update_count"]), (2, &(sent + 1).into()));
}

/// Sends events to any node that accepts them.
fn write(mut writer: Writer, task: usize, enough: &Arc<AtomicBool>) -> JoinHandle<(usize, Tally)> {
    let enough = Arc::clone(enough);
    tokio::spawn(async move {
        let mut sent = 0;
        while !enough.load(Ordering::SeqCst) {
            writer.increment(&format!("{task}-{sent}")).await;
            sent += 1;
            sleep(Duration::from_millis(10)).await;
        }
        (sent, writer.tally)
    })
}

/// Looks at what is stored all the time: once the next version has written, every change is its own, and none of
/// what it has written is gone. Says how often it has looked since.
async fn witness(store: Arc<dyn Store>, enough: Arc<AtomicBool>) -> usize {
    // Counts of changes by the older and by the next version.
    let mut last: Option<(u64, u64)> = None;
    let mut looks = 0;
    while !enough.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(10)).await;
        let Ok(loaded) = store.load(&crate::cluster::counter_key(), None).await else { continue };
        let Some(record) = loaded.record else { continue };
        let counter: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        if record.schema == 1 {
            assert!(last.is_none(), "an older version wrote over a newer one's: {counter}");
            continue;
        }
        let [all, next] = ["update_count", "by_next"].map(|field| counter[field].as_u64().unwrap());
        if let Some((older, newer)) = last {
            assert!(all - next == older && next >= newer, "{older} and {newer} changes became {counter}");
        }
        last = Some((all - next, next));
        looks += 1;
    }
    assert!(last.is_some_and(|(older, newer)| older > 0 && newer > 0), "{last:?}");
    looks
}
