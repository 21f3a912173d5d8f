//! Law 16 across the death of the process: bids in flight, and auctions that end while no server runs.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use faststate_tests::{Demo, Folder, http, until};

use super::ADAPTER;
use crate::{cookie, send};

const LOTS: [&str; 5] = ["l1", "l2", "l3", "l4", "l5"];
const SECONDS: u64 = 2;
/// The number of replies to bids before each kill.
const KILLS: [usize; 5] = [0, 1, 5, 20, 60];

/// The amounts of one user's purse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    credit: u64,
    reserved: u64,
    spent: u64,
    earned: u64,
}

/// Reads the amounts from the user's page.
fn amounts(demo: &Demo, cookie: &str) -> Amounts {
    let reply = http::exchange(demo.address(), "GET", "/auction", cookie, &[]).expect("the demo answers");
    let html = reply.text();
    let shown = |id: &str| {
        let (_, rest) = html.split_once(&format!("<dd id=\"{id}\"")).expect("the page shows a purse");
        let text = rest.split_once('>').and_then(|(_, rest)| rest.split_once('<')).expect("an element").0;
        text.parse().expect("an amount")
    };
    Amounts {
        credit: shown("credit"),
        reserved: shown("reserved"),
        spent: shown("spent"),
        earned: shown("earned"),
    }
}

/// Whether every lot is over.
fn are_over(demo: &Demo) -> bool {
    LOTS.iter().all(|lot| {
        let reply = http::get(demo.address(), &format!("/auction/{lot}")).expect("the demo answers");
        reply.text().contains(">over</dd>")
    })
}

/// Bids from several threads, and kills the server after this many replies.
fn kill_while_bidding(demo: &mut Demo, bidders: &[String], replies: usize) {
    let (address, answered) = (demo.address(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for (number, cookie) in bidders.iter().cycle().take(8).enumerate() {
            let answered = &answered;
            scope.spawn(move || {
                let headers = format!("{cookie}Content-Type: application/json\r\n");
                for step in 1.. {
                    let path = format!("/faststate/lot/{}/bid", LOTS[(number + step) % LOTS.len()]);
                    let json = format!(r#"{{"amount":{}}}"#, step * 2 + number);
                    let reply = http::exchange(address, "POST", &path, &headers, json.as_bytes());
                    if reply.is_err() {
                        break;
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("replies to bids", || answered.load(Ordering::SeqCst), |count| *count >= replies);
        demo.kill();
    });
}

#[test]
fn law_16_auctions_end_right_though_the_server_was_killed() {
    let folder = Folder::new("downtime");
    let store = format!("sqlite://{}", folder.join("demo.db").display());
    let mut demo = Demo::with(&["--adapter", ADAPTER, "--store", &store]);
    let [admin, bob, carol, alice] = ["admin", "bob", "carol", "alice"].map(|user| cookie(&demo, user));
    let bidders = [bob.clone(), carol.clone()];
    let (mut topped_up, mut sold) = (0, 0);
    for replies in KILLS {
        for bidder in &bidders {
            send(&demo, bidder, "/faststate/purse/top_up", r#"{"amount":1000}"#);
            topped_up += 1000;
        }
        for lot in LOTS {
            let json = format!(r#"{{"seconds":{SECONDS}}}"#);
            send(&demo, &admin, &format!("/faststate/lot/{lot}/open"), &json);
        }
        let opened = Instant::now();
        kill_while_bidding(&mut demo, &bidders, replies);
        let downtime = Duration::from_secs(SECONDS + 1);
        until("the end of the auctions", || opened.elapsed(), |elapsed| *elapsed > downtime);

        demo.restart();
        let started = Instant::now();
        until("the auctions to be over", || are_over(&demo), |over| *over);
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        until(
            "no message to be in flight",
            || demo.health()["messages"]["pending"].clone(),
            |left| *left == 0,
        );
        let purses = [&bob, &carol, &alice].map(|user| amounts(&demo, user));
        let sum = |of: fn(&Amounts) -> u64| purses.iter().map(of).sum::<u64>();
        let (spent, earned) = (sum(|purse| purse.spent), sum(|purse| purse.earned));
        assert_eq!(sum(|purse| purse.reserved), 0, "{purses:?}");
        assert_eq!(spent, earned, "{purses:?}");
        assert_eq!(sum(|purse| purse.credit) + spent, topped_up + earned, "{purses:?}");
        assert_eq!(demo.health()["messages"]["parked"], 0);
        sold = earned;
    }
    assert!(sold > 0, "some bids were in time");
}
