//! A network that drops a connection silently.

use std::time::Duration;

use faststate_tests::{Cable, Demo};

use super::BROWSER;
use crate::increment;

/// Law 4: within this time the page reports that the connection is lost.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(45);

/// Within this time after the network returns, the page matches the store.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn law_04_silent_loss_is_reported_and_the_page_recovers() {
    let demo = Demo::start();
    let cable = Cable::to(demo.address());
    let page = BROWSER.visitor().open(&format!("http://{}/counter", cable.address()));
    increment(&demo, 1);
    page.shows("#count", "1");
    page.until("document.querySelector('.link [data-text]').textContent == 'Connected'");
    cable.cut();
    increment(&demo, 2);
    page.until_within(
        NOTICE_TIMEOUT,
        "document.querySelector('.link [data-text]').textContent == 'Reconnecting'",
    );
    page.shows("#count", "1");
    page.fill("#amount", "4");
    page.click("#increment");
    cable.mend();
    page.until_within(RECOVERY_TIMEOUT, "document.querySelector('#count').textContent == '7'");
    page.until("document.querySelector('.link [data-text]').textContent == 'Connected'");
    page.shows("#update-count", "3");
}
