//! Error messages on the page.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use faststate::{BoxError, endpoint::Page, prelude::*};
use faststate_tests::{Session, until};
use serde::{Deserialize, Serialize};

use super::ADAPTER;
use crate::{
    adapter::shows,
    app::{App, html},
};

const NOTICE: &str = "#faststate-problem";

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";
}

#[derive(Serialize, Deserialize)]
struct Pay {
    amount: i64,
}

impl Event for Pay {
    type State = Account;
    const NAME: &'static str = "pay";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += self.amount;
        match self.amount {
            13 => panic!("a defect"),
            666 => Err(Rejection::conflict("no <b>such</b> amount")),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct News {
    headline: String,
}

impl ReactiveState for News {
    const NAME: &'static str = "news";
}

#[derive(Serialize, Deserialize)]
struct Print {
    headline: String,
}

impl Event for Print {
    type State = News;
    const NAME: &'static str = "print";

    fn apply(&self, news: &mut News, _: &mut Context<News>) -> Result<(), Rejection> {
        news.headline.clone_from(&self.headline);
        Ok(())
    }
}

async fn bank(page: Page) -> Result<String, BoxError> {
    page.follow::<Account>().await?;
    page.follow::<News>().await?;
    let pay = |amount: i64| {
        let action = Pay { amount }.action();
        format!("<button id=\"pay{amount}\" data-on:click=\"{action}\">{amount}</button>")
    };
    let print = Print { headline: "extra".to_owned() }.action();
    let body = format!(
        "{}{}{}<button id=\"print\" data-on:click=\"{print}\">Print</button>
        <p id=\"balance\" data-text=\"$account.balance\"></p><p id=\"headline\" data-text=\"$news.headline\"></p>",
        pay(1),
        pay(13),
        pay(666),
    );
    Ok(html(&page, &body))
}

/// Whether the bank's access policy admits viewers.
fn app(open: &Arc<AtomicBool>) -> App {
    let open = Arc::clone(open);
    let account = StateConfig::global().access(Access::when(move |_, _| open.load(Ordering::SeqCst)));
    let news = StateConfig::global().access(Access::public());
    let registry = || {
        StateRegistry::builder()
            .state::<Account>(account, |state| state.event::<Pay>())
            .state::<News>(news, |state| state.event::<Print>())
            .build()
            .unwrap()
    };
    App::serve(ADAPTER, registry, &[("/", shows(bank))])
}

#[test]
fn a_refusal_is_shown_until_something_is_accepted_or_it_is_dismissed() {
    let app = app(&Arc::new(AtomicBool::new(true)));
    let (page, other) = (Session::new().open(&app.url()), Session::new().open(&app.url()));
    page.click("#pay666");
    page.mentions(NOTICE, "no <b>such</b> amount");
    page.click("#pay1");
    page.shows("#balance", "1");
    page.until("!document.querySelector('#faststate-problem')");
    // The same refusal twice shows one notice, which can be dismissed.
    page.click("#pay666");
    page.mentions(NOTICE, "no <b>such</b> amount");
    let first = page.eval("document.querySelector('#faststate-problem').dataset.effect");
    page.click("#pay666");
    page.until(&format!(
        "[...document.querySelectorAll('#faststate-problem')].map(it => it.dataset.effect != {first}).join() == 'true'"
    ));
    page.click(".faststate-problem-close");
    page.until("!document.querySelector('#faststate-problem')");
    assert_eq!(other.count(NOTICE), 0, "the notice is the sender's alone");
    other.shows("#balance", "1");
}

#[test]
fn law_07_a_defect_shows_a_reference_and_nothing_internal_and_changes_nothing() {
    let app = app(&Arc::new(AtomicBool::new(true)));
    let page = Session::new().open(&app.url());
    page.click("#pay13");
    page.mentions(NOTICE, "Reference");
    let text = page.text(NOTICE).unwrap_or_default();
    assert!(!text.contains("a defect") && !text.contains("panic"), "{text}");
    page.click("#pay1");
    page.shows("#balance", "1");
}

#[test]
fn law_08_who_may_no_longer_look_is_told_once_and_follows_what_they_still_may() {
    let open = Arc::new(AtomicBool::new(true));
    let app = app(&open);
    let page = Session::new().open(&app.url());
    page.click("#pay1");
    page.shows("#balance", "1");

    open.store(false, Ordering::SeqCst);
    app.endpoint().close_streams(|_| true);
    page.until("document.querySelector('#faststate-problem')");
    until("the stream of what is public", || app.endpoint().connections(), |streams| *streams == 1);
    page.click("#print");
    page.shows("#headline", "extra");
    page.until("!document.querySelector('#faststate-problem')");
    page.click("#pay1");
    page.until("document.querySelector('#faststate-problem')");
    assert_eq!(page.text("#balance").as_deref(), Some("1"));
    assert_eq!(app.truth::<Account>(None)["balance"], 1);
}
