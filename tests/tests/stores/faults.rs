//! A store fails during a burst, in every way that is known, and returns: nothing
//! acknowledged is lost, each response is in time, everything recovers without help, and each event counts once.

use std::time::{Duration, Instant};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use faststate_tests::{Cable, Disk, Folder, MariaDb, Postgres, RedisServer};
use tokio::{task::block_in_place, time::sleep};

use crate::{burst::Burst, ledger::Ledgers, open::open};

const CLIENTS: usize = 32;
/// The number of acknowledged events before the failure.
const MIDWAY: usize = 200;
/// The duration of an outage without responses.
const OUTAGE_DURATION: Duration = Duration::from_secs(5);

/// Runs a burst through one address during `outage`, and checks the result through another.
async fn outlives(through: &str, at: &str, outage: impl AsyncFnOnce(&Burst)) {
    let ledgers = Ledgers::new(open(through).await);
    let burst = Burst::start(&ledgers, CLIENTS);
    burst.goes_on(MIDWAY).await;
    outage(&burst).await;
    recovers(&ledgers).await;
    burst.settle(open(at).await).await;
}

/// The application responds again within 5 s.
async fn recovers(ledgers: &Ledgers) {
    let back = Instant::now();
    for number in 0.. {
        if ledgers.enter("probe", &format!("probe-{number}")).await.is_ok() {
            return;
        }
        assert!(back.elapsed() < Duration::from_secs(5), "it is still away");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The server is killed and restarted three times.
async fn is_killed(burst: &Burst, mut kill: impl FnMut(), mut restart: impl FnMut()) {
    for _ in 0..3 {
        block_in_place(&mut kill);
        burst.fails().await;
        block_in_place(&mut restart);
        burst.goes_on(MIDWAY).await;
    }
}

/// The server is stopped with SIGSTOP.
async fn hangs(burst: &Burst, pause: impl FnOnce(), resume: impl FnOnce()) {
    let since = Instant::now();
    block_in_place(pause);
    burst.fails().await;
    sleep(OUTAGE_DURATION.saturating_sub(since.elapsed())).await;
    block_in_place(resume);
}

/// The network is cut twice, for 1 s and for 5 s.
async fn is_cut_off(burst: &Burst, cable: &Cable) {
    for away in [Duration::from_secs(1), OUTAGE_DURATION] {
        cable.cut();
        sleep(away).await;
        cable.mend();
        burst.goes_on(MIDWAY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_is_stopped_at_once_in_the_middle_of_a_burst() {
    let server = std::cell::RefCell::new(Postgres::start());
    let url = server.borrow().url();
    let outage = async |burst: &Burst| {
        is_killed(burst, || server.borrow_mut().crash(), || server.borrow_mut().restart()).await;
    };
    outlives(&url, &url, outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_mysql_is_killed_in_the_middle_of_a_burst() {
    let server = std::cell::RefCell::new(MariaDb::start());
    let url = server.borrow().url();
    let outage = async |burst: &Burst| {
        is_killed(burst, || server.borrow_mut().crash(), || server.borrow_mut().restart()).await;
    };
    outlives(&url, &url, outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_redis_is_restarted_in_the_middle_of_a_burst() {
    let server = std::cell::RefCell::new(RedisServer::start());
    let url = server.borrow().url();
    let outage = async |burst: &Burst| {
        is_killed(burst, || server.borrow_mut().kill(), || server.borrow_mut().restart()).await;
    };
    outlives(&url, &url, outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_postgres_hangs_for_five_seconds_in_the_middle_of_a_burst() {
    let server = Postgres::start();
    let outage = async |burst: &Burst| hangs(burst, || server.pause(), || server.resume()).await;
    outlives(&server.url(), &server.url(), outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_mysql_hangs_for_five_seconds_in_the_middle_of_a_burst() {
    let server = MariaDb::start();
    let outage = async |burst: &Burst| hangs(burst, || server.pause(), || server.resume()).await;
    outlives(&server.url(), &server.url(), outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_redis_hangs_for_five_seconds_in_the_middle_of_a_burst() {
    let server = RedisServer::start();
    let outage = async |burst: &Burst| hangs(burst, || server.pause(), || server.resume()).await;
    outlives(&server.url(), &server.url(), outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_the_network_to_postgres_swallows_everything_in_the_middle_of_a_burst() {
    let server = Postgres::start();
    let cable = Cable::to(server.address());
    let through = Postgres::url_at(cable.address());
    outlives(&through, &server.url(), async |burst| is_cut_off(burst, &cable).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_the_network_to_mysql_swallows_everything_in_the_middle_of_a_burst() {
    let server = MariaDb::start();
    let cable = Cable::to(server.address());
    let through = MariaDb::url_at(cable.address());
    outlives(&through, &server.url(), async |burst| is_cut_off(burst, &cable).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_the_network_to_redis_swallows_everything_in_the_middle_of_a_burst() {
    let server = RedisServer::start();
    let cable = Cable::to(server.address());
    let through = format!("redis://{}", cable.address());
    outlives(&through, &server.url(), async |burst| is_cut_off(burst, &cable).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_somebody_locks_sqlites_file_in_the_middle_of_a_burst() {
    let folder = Folder::new("sqlite");
    let file = folder.join("burst.db");
    let url = format!("sqlite://{}", file.display());
    let mut locker = None;
    let outage = async |burst: &Burst| {
        let mut other = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        // SQLite's lock is unfair, and the store holds it most of the time.
        let began = Instant::now();
        while let Err(error) = block_in_place(|| other.batch_execute("BEGIN IMMEDIATE")) {
            assert!(began.elapsed() < Duration::from_secs(20), "the lock is not to be had: {error}");
            sleep(Duration::from_millis(1)).await;
        }
        locker = Some(other);
        burst.fails().await;
        sleep(OUTAGE_DURATION).await;
        locker.take();
    };
    outlives(&url, &url, outage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_sqlites_disk_is_full_in_the_middle_of_a_burst() {
    let disk = Disk::new();
    let url = format!("sqlite://{}", disk.path().join("burst.db").display());
    let outage = async |burst: &Burst| {
        let ballast = disk.path().join("ballast");
        // Fills the remaining space.
        let _ = std::fs::write(&ballast, vec![0; Disk::BYTES]);
        burst.fails().await;
        sleep(Duration::from_secs(2)).await;
        std::fs::remove_file(&ballast).unwrap();
    };
    outlives(&url, &url, outage).await;
}
