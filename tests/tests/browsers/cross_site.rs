//! Requests from another site.

use faststate_tests::{Answer, Demo, Key, Site};

use super::BROWSER;

/// Another site: for a browser, `localhost` and `127.0.0.1` differ. Its page posts a form to the demo, like a
/// payment page that returns to the shop.
fn other_site(demo: &Demo, path: &str) -> Site {
    let form = format!(
        "<!doctype html><form method=\"post\" action=\"{}\"><input name=\"name\" value=\"x\"><button>Return</button></form>",
        demo.url(path)
    );
    Site::new(Demo::bundle(), "").on("/pay", [Answer::Whole(200, "Content-Type: text/html\r\n", form)])
}

#[test]
fn law_08_form_of_another_site_signs_no_visitor_out() {
    let demo = Demo::start();
    for path in ["/counter", "/login", "/faststate/counter/increment", "/nothing"] {
        let visitor = BROWSER.visitor();
        let page = visitor.open(&demo.url("/login?next=/profile"));
        page.fill("#name", "alice");
        page.fill("#password", "faststate");
        page.press(Key::Enter);
        page.until("document.querySelector('h1')?.textContent == 'Profile'");

        let site = other_site(&demo, path);
        let paying = visitor.window();
        paying.expect_complaints(&["40", "favicon"]);
        paying.load(&format!("{}pay", site.url().replace("127.0.0.1", "localhost")));
        paying.click("button");
        paying.until(&format!("location.href == '{}' && document.readyState == 'complete'", demo.url(path)));
        paying.load(&demo.url("/profile"));
        paying.until("document.querySelector('h1')");
        paying.shows("h1", "Profile");
    }
}
