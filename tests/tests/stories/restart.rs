//! Every page across a restart of the server.

use faststate_tests::{Demo, Folder, Page, Session};

use super::ADAPTER;
use crate::{ADD, sign_in};

const DOWN: &[&str] =
    &["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_SOCKET"];

fn shown(page: &Page, selector: &str, text: &str) {
    page.mentions(selector, text);
}

#[test]
fn law_01_a_restart_keeps_everything_and_every_page_recovers_without_a_reload() {
    let folder = Folder::new("restart");
    let store = format!("sqlite://{}", folder.join("demo.db").display());
    let mut demo = Demo::with(&["--adapter", ADAPTER, "--store", &store]);
    // A browser opens at most six connections to a server, and each visible window uses one.
    let (here, there) = (Session::new(), Session::new());
    let login = sign_in(&here, &demo, "admin");
    let open = |session: &Session, path: &str| session.open(&demo.url(path));
    let (home, counter, chat) = (open(&here, "/"), open(&here, "/counter"), open(&here, "/chat"));
    let products = sign_in(&there, &demo, "admin");
    products.goto(&demo.url("/products"));
    let (product, profile) = (open(&there, "/product/plant"), open(&there, "/profile"));
    let (admin, status) = (open(&there, "/admin"), open(&there, "/status"));

    home.click("button[aria-label=Increment]");
    home.fill("#text", "kept text");
    home.shows("#server-text", "kept text");
    home.click("#timer-tea .run");
    home.shows("#timer-tea .run", "Pause");
    counter.click(ADD);
    counter.shows("#count", "1");
    chat.fill("#message", "kept message");
    chat.enter();
    shown(&chat, "#messages", "kept message");
    chat.fill("#message", "a draft");
    product.click("#buy");
    product.shows("#shown-stock", "17 in stock");
    profile.fill("#display_name", "Ada Min");
    profile.click("#save");
    profile.shows("#touched", "Everything is saved");
    admin.click("#theme-forest");
    let pages = [&login, &home, &counter, &chat, &product, &products, &profile, &admin, &status];
    for page in pages {
        page.until("document.body.dataset.theme == 'forest'");
        page.expect_complaints(DOWN);
        page.eval("window.neverReloaded = true");
    }
    demo.kill();
    for page in pages {
        page.shows(".link [data-text]", "Reconnecting");
    }
    demo.restart();
    for page in pages {
        page.shows(".link [data-text]", "Connected");
        page.shows("#who", "admin");
    }
    // Each page continues from its cursor.
    home.click("button[aria-label=Increment]");
    home.shows("#number", "2");
    home.shows("#server-text", "kept text");
    home.shows("#timer-tea .run", "Pause");
    counter.click(ADD);
    counter.shows("#count", "2");
    counter.shows("#last-updated-by", "admin");
    shown(&chat, "#messages", "kept message");
    assert_eq!(chat.eval("document.querySelector('#message').value"), "a draft");
    product.click("#buy");
    product.shows("#shown-stock", "16 in stock");
    shown(&products, ".shelf", "16 in stock");
    assert_eq!(profile.eval("document.querySelector('#display_name').value"), "Ada Min");
    login.shows("#browsers", "2 browsers");
    admin.click("#theme-ember");
    for page in pages {
        page.until("document.body.dataset.theme == 'ember'");
        assert_eq!(page.eval("window.neverReloaded"), true);
    }
    shown(&status, "#nodes", "answers");
}
