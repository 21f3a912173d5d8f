//! Tests of the pages in the testkit's in-process browsers.

use faststate::{
    MemoryStore,
    testing::{App, Browser},
};

use super::*;

/// The site on each adapter that is built in.
fn apps() -> Result<Vec<App>, BoxError> {
    let policy = ContentPolicy::new(&Bundle::cdn());
    let site = || {
        let (watched, _) = watch::channel(0);
        site(registry(Arc::new(MemoryStore::new()), None, "test", watched)?).map_err(BoxError::from)
    };
    let adapters = web::Adapter::BUILT_IN.iter().map(|(_, adapter)| *adapter);
    adapters.filter_map(|adapter| site().map(|site| adapter.app(site, policy.clone())).transpose()).collect()
}

async fn signed_in(app: &App, name: &str) -> Browser {
    let mut browser = Browser::new(app);
    browser.post("/login", &[("name", name), ("password", account::PASSWORD), ("next", "/profile")]).await;
    browser.assert_signal("login.user", name);
    browser
}

#[tokio::test]
async fn count_is_shared_but_errors_are_private() -> Result<(), BoxError> {
    for app in apps()? {
        let (mut ada, mut guest) = (Browser::new(&app), Browser::new(&app));
        ada.visit("/counter").await;
        guest.visit("/counter").await;
        ada.fill("_user", "Ada").fill("_amount", 5).click("Add").await.assert_changed();
        guest.click("Subtract").await.assert_changed();
        guest.settle().await;
        guest.assert_text("#count", "4");
        guest.assert_signal("counter.last_updated_by", "Anonymous");
        assert!(guest.html().contains("6.0,74.0 150.0,6.0 294.0,19.6"), "the chart: {}", guest.html());

        ada.fill("_amount", 1001).click("Add").await.assert_rejected("amount");
        ada.assert_text("#amount-error", "from 1 to 1000");
        guest.assert_text("#amount-error", "");
        guest.assert_quiet().await;
        ada.fill("_amount", 1000).click("Add").await.assert_changed();
        ada.assert_text("#amount-error", "");
        ada.settle().await;
        ada.assert_current().await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn law_08_profile_follows_its_user_until_log_out() -> Result<(), BoxError> {
    for app in apps()? {
        let mut stranger = Browser::new(&app);
        stranger.visit("/profile").await;
        stranger.assert_text("title", "Sign in · FastState");

        let (mut alice, mut phone) = (signed_in(&app, "alice").await, signed_in(&app, "alice").await);
        let mut bob = signed_in(&app, "bob").await;
        let preference = |browser: &mut Browser| {
            browser.fill("new_preference", "colour").fill("new_value", "<green>");
        };
        preference(&mut alice);
        alice.submit("[aria-label=\"Add a preference\"]").await.assert_changed();
        for (browser, sees) in [(&mut phone, true), (&mut bob, false)] {
            browser.settle().await;
            assert_eq!(browser.text().contains("<green>"), sees);
            browser.assert_current().await;
        }

        phone.visit("/login").await;
        phone.click("Log out everywhere").await.assert_changed();
        alice.settle().await;
        preference(&mut alice);
        alice.submit("[aria-label=\"Add a preference\"]").await.assert_problem("sign_in");
        bob.settle().await;
        assert!(bob.is_following());
    }
    Ok(())
}

#[tokio::test]
async fn maintenance_refuses_events_except_administrators() -> Result<(), BoxError> {
    for app in apps()? {
        let (mut admin, mut alice) = (signed_in(&app, "admin").await, signed_in(&app, "alice").await);
        admin.visit("/admin").await;
        alice.visit("/counter").await;
        alice
            .send("@post('/faststate/settings/set_maintenance',{payload:{on:true}})")
            .await
            .assert_rejected("");
        admin.click("#maintenance-switch").await.assert_changed();
        alice.settle().await;
        alice.assert_signal("settings.maintenance", true);
        alice.click("Add").await.assert_rejected("");
        alice.assert_reads("maintenance is going on");
        admin.settle().await;
        admin.click("#maintenance-switch").await.assert_changed();
        alice.settle().await;
        alice.click("Add").await.assert_changed();
    }
    Ok(())
}

/// A page on the form leaves it when it receives another user, so the page that sent the form must get its response
/// first.
#[tokio::test(start_paused = true)]
async fn old_session_is_signed_out_after_the_response() -> Result<(), BoxError> {
    for app in apps()? {
        let mut page = signed_in(&app, "alice").await;
        let mut window = page.window();
        window.visit("/login").await;
        window.assert_signal("login.user", "alice");
        page.post("/login", &[("name", "bob"), ("password", account::PASSWORD)]).await;
        page.assert_signal("login.user", "bob");
        window.read().await;
        window.assert_signal("login.user", "alice");
        window.sees("login.user", "bob").await;
    }
    Ok(())
}

#[tokio::test]
async fn auction_page_follows_purse_and_lot() -> Result<(), BoxError> {
    for app in apps()? {
        let (mut bob, mut carol) = (signed_in(&app, "bob").await, signed_in(&app, "carol").await);
        let mut admin = signed_in(&app, "admin").await;
        admin.visit("/auction/l1").await;
        admin.fill("_seconds", 600).submit("[aria-label=\"Open the lot\"]").await.assert_changed();
        for browser in [&mut bob, &mut carol] {
            browser.visit("/auction/l1").await;
            browser.fill("_top_up", 100).submit("[aria-label=\"Top up\"]").await.assert_changed();
        }
        bob.fill("_bid", 40).submit("[aria-label=Bid]").await;
        bob.sees("lot.l1.leader", "bob").await;
        bob.sees("purse.reserved", 40).await;
        carol.fill("_bid", 40).submit("[aria-label=Bid]").await.assert_rejected("amount");
        carol.assert_text("#bid-error", "bid more than 40");
        carol.fill("_bid", 50).submit("[aria-label=Bid]").await;
        bob.sees("purse.reserved", 0).await;
        bob.reads("you were outbid").await;
        bob.assert_signal("purse.credit", 100);
        carol.sees("lot.l1.leader", "carol").await;
        carol.sees("lot.l1._pending", 0).await;

        let mut guest = Browser::new(&app);
        guest.visit("/auction").await;
        guest.assert_reads("Sign in to bid");
        guest.visit("/auction/l6").await;
        guest.assert_text("h1", "There is no such lot");
    }
    Ok(())
}

#[tokio::test]
async fn purse_messages_are_not_callable_over_http() -> Result<(), BoxError> {
    for app in apps()? {
        let mut bob = signed_in(&app, "bob").await;
        bob.visit("/auction").await;
        for message in ["earn", "release", "reserve", "pay", "notify"] {
            let path = format!("/faststate/purse/{message}");
            bob.post(&path, &[("amount", "5"), ("reason", "outbid")]).await;
            assert_eq!(bob.status(), http::StatusCode::NOT_FOUND, "{message}");
        }
        bob.visit("/auction").await;
        bob.assert_signal("purse.credit", 0);
    }
    Ok(())
}
