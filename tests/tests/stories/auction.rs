//! The auction: an outbid bidder gets the credit back, and an auction ends by itself.

use faststate_tests::{Demo, Page, Session};

use super::ADAPTER;
use crate::{cookie, send, sign_in};

/// Opens the page of the first lot as this user.
fn lot(demo: &Demo, user: &str) -> Page {
    let page = sign_in(&Session::new(), demo, user);
    page.goto(&demo.url("/auction/l1"));
    page
}

fn open(demo: &Demo, seconds: u32) {
    let json = format!(r#"{{"seconds":{seconds}}}"#);
    send(demo, &cookie(demo, "admin"), "/faststate/lot/l1/open", &json);
}

fn bid(page: &Page, amount: &str) {
    page.fill("#bid", amount);
    page.click("#place-bid");
}

#[test]
fn outbid_bidder_gets_credit_back_and_the_end_pays_the_seller() {
    let demo = Demo::over(ADAPTER);
    open(&demo, 600);
    let (bob, carol, alice) = (lot(&demo, "bob"), lot(&demo, "carol"), lot(&demo, "alice"));
    for page in [&bob, &carol] {
        page.fill("#top-up", "100");
        page.click("#add-credit");
        page.shows("#credit", "100");
    }
    bid(&bob, "40");
    carol.shows("#leader", "bob");
    bob.shows("#reserved", "40");
    bob.shows("#credit", "60");
    bid(&carol, "40");
    carol.mentions("#bid-error", "more than 40");
    bid(&carol, "55");
    bob.shows("#leader", "carol");
    bob.shows("#credit", "100");
    bob.shows("#reserved", "0");
    bob.mentions("#notices", "you were outbid");
    bob.shows("#in-flight", "0");
    bid(&bob, "101");
    bob.mentions("#notices", "your credit is 100");

    // The new end is so near that no bid arrives before it.
    open(&demo, 1);
    for page in [&bob, &carol, &alice] {
        page.shows("#outcome", "has bought it");
        page.shows("#left", "over");
        page.shows("#leader", "carol");
    }
    carol.shows("#spent", "55");
    carol.mentions("#notices", "it is yours");
    alice.shows("#earned", "55");
    alice.shows("#credit", "55");
    bob.until("document.querySelector('#place-bid').disabled");
    let list = bob;
    list.goto(&demo.url("/auction"));
    list.mentions("#lot-l1", "carol has bought it");
    list.mentions("#lot-l5", "no bids yet");
}

#[test]
fn purse_is_followed_by_its_user_alone() {
    let demo = Demo::over(ADAPTER);
    let (bob, carol) = (lot(&demo, "bob"), lot(&demo, "carol"));
    send(&demo, &cookie(&demo, "bob"), "/faststate/purse/top_up", r#"{"amount":7}"#);
    bob.shows("#credit", "7");
    carol.fill("#top-up", "1001");
    carol.click("#add-credit");
    carol.mentions("#top-up-error", "from 1 to 1000");
    assert_eq!(carol.text("#credit").as_deref(), Some("0"));
}
