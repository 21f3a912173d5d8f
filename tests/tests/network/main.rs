//! A network that drops packets, between a browser and the demo in separate namespaces. Requires root.

use std::{
    thread,
    time::{Duration, Instant},
};

use faststate_tests::{Browser, Demo, Network, Window as _, http, until_within};

/// Law 4: within this time the page reports that the connection is lost.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(45);

/// Within this time after the network returns, the page matches the store.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Law 6: within this time a vanished viewer is forgotten.
const FORGET_TIMEOUT: Duration = Duration::from_secs(60);

const LINK: &str = "document.querySelector('.link [data-text]').textContent";

/// The number of network failures: `FASTSTATE_RUNS`, by default 2.
fn runs() -> u32 {
    std::env::var("FASTSTATE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(2)
}

#[test]
fn law_04_page_recovers_from_dropped_packets() {
    let network = Network::new();
    let demo = network.server(|| Demo::on(Network::SERVER, &[]));
    let browser = network.client(Browser::launch);
    let session = browser.session();
    let page = session.open(&demo.url("/counter"));
    page.expect_complaints(&["ERR_"]);
    page.until(&format!("{LINK} == 'Connected'"));
    let increment = || {
        let answer = network.server(|| http::post(demo.address(), "/faststate/counter/increment", "{}"));
        assert_eq!(answer.expect("the demo answers").status, 200);
    };
    let mut count = 0;
    for run in 1..=runs() {
        network.drop_packets();
        let dropped = Instant::now();
        increment();
        page.until_within(NOTICE_TIMEOUT, &format!("{LINK} == 'Reconnecting'"));
        let noticed = dropped.elapsed();
        // The event is sent exactly once.
        page.click("#increment");
        let streams = || network.server(|| demo.health()["connections"].as_u64());
        let left = FORGET_TIMEOUT.saturating_sub(dropped.elapsed());
        until_within(left, "the stream to be forgotten", streams, |streams| *streams == Some(0));
        let forgotten = dropped.elapsed();
        // In each run, the network returns at a different moment between two connection attempts.
        thread::sleep(Duration::from_millis(u64::from(run) * 733 % 8000));
        network.pass_packets();
        let passed = Instant::now();
        count += 2;
        page.until_within(
            RECOVERY_TIMEOUT,
            &format!("document.querySelector('#count').textContent == '{count}'"),
        );
        page.until(&format!("{LINK} == 'Connected'"));
        assert_eq!(page.text("#update-count"), Some(count.to_string()));
        println!(
            "run {run}: noticed {noticed:.1?}, forgotten {forgotten:.1?}, recovered {:.1?}",
            passed.elapsed()
        );
    }
}
