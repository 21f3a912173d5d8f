//! Screenshots of every page, with `FASTSTATE_SCREENSHOTS=1`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use faststate_tests::{Demo, Page, Session, http, until};
use serde_json::json;

use super::{ADAPTER, pages::every_page};
use crate::{cookie, send, sign_in};

fn take(folder: &Path, name: &str, page: &Page) {
    for width in [1280, 390] {
        for scheme in ["light", "dark"] {
            page.picture(width, scheme, &folder.join(format!("{name}-{width}-{scheme}.png")));
        }
    }
}

fn folder() -> PathBuf {
    let program = std::env::current_exe().expect("a test knows its program");
    let folder = program.ancestors().nth(3).unwrap_or(Path::new("target")).join("screenshots");
    fs::create_dir_all(&folder).expect("a folder for the pictures");
    folder
}

#[test]
fn pictures_are_taken_when_asked_for() {
    if std::env::var_os("FASTSTATE_SCREENSHOTS").is_none() {
        return;
    }
    let (demo, folder) = (Demo::over(ADAPTER), folder());
    for (username, message) in
        [("Ada", "Hello, everybody!"), ("Ben", "Hi Ada. It followed at once."), ("Ada", "As it should.")]
    {
        let json = json!({ "username": username, "message": message }).to_string();
        let _ = http::post(demo.address(), "/faststate/chat/send_message", &json);
    }
    for amount in [4, 9, 2, 14, 7, 1, 12, 20, 3, 8] {
        let (event, amount) = if amount % 4 == 2 { ("decrement", amount / 2) } else { ("increment", amount) };
        let json = json!({ "amount": amount, "user": "Ada" }).to_string();
        let _ = http::post(demo.address(), &format!("/faststate/counter/{event}"), &json);
    }
    for (user, lot, amount) in
        [("bob", "l1", 120), ("carol", "l1", 150), ("bob", "l3", 45), ("admin", "l4", 80)]
    {
        let bidder = cookie(&demo, user);
        send(&demo, &bidder, "/faststate/purse/top_up", r#"{"amount":500}"#);
        send(&demo, &bidder, &format!("/faststate/lot/{lot}/bid"), &json!({ "amount": amount }).to_string());
    }
    for (name, page) in every_page(&demo) {
        page.until("document.querySelector('.link[data-link=connected]')");
        match name {
            "home" => {
                page.fill("#text", "It follows");
                page.click("button[aria-label=Increment]");
                page.click("#start-ticking");
                page.click("#timer-tea .run");
                page.until("document.querySelector('#ticks').value >= 6");
            }
            "profile" => {
                page.fill("#display_name", "Ada Lovelace");
                page.fill("#email", "ada@example.org");
                page.click("#save");
                page.shows("#touched", "Everything is saved");
                for (preference, value) in [("Colour", "green"), ("Breakfast", "late")] {
                    page.fill("#preference", preference);
                    page.fill("#value", value);
                    page.enter();
                    page.mentions("#preferences", value);
                }
            }
            "chat" => page.shows("#present", "1 person here"),
            "product" => {
                page.fill("#price", "44.00");
                page.fill(
                    "#description",
                    "A warm light that bends to wherever the book is. Now with a longer arm.",
                );
                page.shows("#touched", "Not saved yet: description, price");
            }
            "status" => drop(until(
                "some seconds of events",
                || {
                    let bars = page.count(".bars rect");
                    for _ in 0..(bars * bars) % 7 {
                        let _ = http::post(demo.address(), "/faststate/counter/increment", "{}");
                    }
                    bars
                },
                |bars| *bars > 7,
            )),
            _ => {}
        }
        take(&folder, name, &page);
    }
    let guest = Session::new();
    take(&folder, "signing-in", &guest.open(&demo.url("/login")));
    let page = guest.open(&demo.url("/product/mug"));
    page.fill("#price", "free");
    page.click("#save");
    page.mentions("#price-error", "24.90");
    take(&folder, "product-refused", &page);
    page.goto(&demo.url("/product/chair"));
    for left in (0..4).rev() {
        page.click("#buy");
        page.shows("#shown-stock", &format!("{left} in stock"));
    }
    page.click("#buy");
    page.mentions("#problem", "the last one");
    take(&folder, "problem", &page);
    let admin = sign_in(&Session::new(), &demo, "admin");
    admin.goto(&demo.url("/admin"));
    admin.fill("#text", "We move to a bigger shed on Friday.");
    admin.click("#announce");
    admin.click("#maintenance-switch");
    admin.click("#theme-forest");
    page.goto(&demo.url("/counter"));
    page.until(
        "document.body.dataset.theme == 'forest' && document.querySelector('#maintenance').checkVisibility()",
    );
    take(&folder, "maintenance", &page);
    page.expect_complaints(&["404"]);
    page.goto(&demo.url("/nowhere"));
    take(&folder, "nowhere", &page);
    page.goto(&demo.url("/"));
    page.expect_complaints(&["ERR_"]);
    admin.expect_complaints(&["ERR_"]);
    drop(demo);
    page.until("document.querySelector('.link[data-link=reconnecting]')");
    take(&folder, "reconnecting", &page);
    println!("pictures are in {}", folder.display());
}
