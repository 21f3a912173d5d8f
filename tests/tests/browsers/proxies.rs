//! A proxy responds instead of the application.

use faststate_tests::{Demo, Proxy};

use super::BROWSER;
use crate::increment;

const LINK: &str = ".link [data-text]";

/// A login page (a redirect to one has the same effect), JSON from a proxy, and an empty response.
const FOREIGN: [&str; 4] = [
    "HTTP/1.1 302 Found\r\nLocation: /login-page\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 48\r\nConnection: close\r\n\r\n\
     <html><body><h1>Sign in to Wi-Fi</h1></body></html>",
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\nConnection: close\r\n\r\n\
     {\"counter\":{\"count\":666}}",
    "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
];

#[test]
fn page_keeps_its_content_and_continues_after_a_proxys_answers() {
    let demo = Demo::start();
    let proxy = Proxy::to(demo.address());
    let page = BROWSER.visitor().open(&proxy.url("/counter"));
    page.expect_complaints(&["ERR_", "NetworkError"]);
    for (round, answer) in FOREIGN.into_iter().enumerate() {
        let count = u32::try_from(round).unwrap() * 3;
        page.shows(LINK, "Connected");
        page.shows("#count", &count.to_string());
        page.eval("window.fetches.length = 0");
        proxy.answer_with(Some(answer));
        page.shows(LINK, "Reconnecting");
        // Both the stream and a click received this response.
        page.until("fetches.filter(type => type === 'retrying').length > 1");
        increment(&demo, 1);
        page.click("#increment");
        page.until("document.querySelector('#unsent:not([hidden])')");
        page.shows("h1", "Counter");
        page.shows("#count", &count.to_string());
        proxy.answer_with(None);
        page.shows("#count", &(count + 2).to_string());
        page.until("document.querySelector('#unsent').hidden");
        // The page follows again.
        increment(&demo, 1);
        page.shows("#count", &(count + 3).to_string());
    }
}
