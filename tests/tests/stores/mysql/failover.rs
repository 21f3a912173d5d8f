//! MariaDB becomes read-only under load, and a replica or the same server accepts writes afterwards.

use std::{collections::BTreeSet, time::Duration};

use faststate_tests::{Cable, MariaDb, failovers, until};
use tokio::task::block_in_place;

use crate::load::Load;

/// The time for which a server that returns is read-only.
const READ_ONLY_DURATION: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_01_mysql_failover_under_load_loses_nothing_acknowledged() {
    let (mut primary, mut replica) = (MariaDb::with_log(), MariaDb::with_log());
    block_in_place(|| replica.follow(&primary));
    let cable = Cable::to(primary.address());
    let mut load = Load::start(&MariaDb::url_at(cable.address()), Duration::ZERO).await;
    let mut checked = BTreeSet::new();
    for round in 0..failovers(2) {
        load.goes_on(200).await;
        block_in_place(|| {
            // No save is acknowledged after this, so the replica will have all of them.
            primary.set_read_only(true);
            replica.promote(&primary);
        });
        cable.lead_to(replica.address());
        eprintln!("round {round}: every node is healthy {:?} after the promotion", load.healthy().await);
        let leaves = || primary.connections();
        block_in_place(|| until("the stores to leave the read-only server", leaves, |count| *count == 0));
        load.goes_on(100).await;
        let acknowledged = load.acknowledged();
        let missing = load.missing(acknowledged.difference(&checked).copied()).await;
        assert!(missing.is_empty(), "round {round}: acknowledged and lost: {missing:?}");
        checked = acknowledged;
        block_in_place(|| primary.follow(&replica));
        (primary, replica) = (replica, primary);
    }
    load.stop().await;
    let missing = load.missing(load.acknowledged()).await;
    assert!(missing.is_empty(), "a later failover lost {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_01_mysql_read_only_for_a_while_under_load_loses_nothing() {
    let server = MariaDb::start();
    let mut load = Load::start(&server.url(), Duration::ZERO).await;
    for round in 0..failovers(2) {
        load.goes_on(200).await;
        block_in_place(|| server.set_read_only(true));
        let before = load.acknowledged();
        // A save that the server committed before it became read-only may be acknowledged a little later.
        tokio::time::sleep(READ_ONLY_DURATION).await;
        let during = load.acknowledged().len() - before.len();
        assert!(during <= 8, "round {round}: a read-only server acknowledged {during} saves");
        for node in load.nodes() {
            assert!(node.ping().await.is_err(), "round {round}: a node at a read-only server is not healthy");
        }
        block_in_place(|| server.set_read_only(false));
        eprintln!(
            "round {round}: every node is healthy {:?} after the server's return",
            load.healthy().await
        );
    }
    load.stop().await;
    let missing = load.missing(load.acknowledged()).await;
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_13_mysql_failover_from_a_hanging_server_takes_seconds() {
    let (old, new) = (MariaDb::start(), MariaDb::start());
    for run in 0..failovers(1) {
        let cable = Cable::to(old.address());
        let load = Load::start(&MariaDb::url_at(cable.address()), Duration::ZERO).await;
        load.fill_pools().await;
        load.goes_on(200).await;
        old.pause();
        cable.lead_to(new.address());
        eprintln!("run {run}: every node is healthy after {:?}", load.healthy().await);
        drop(load);
        old.resume();
    }
}
