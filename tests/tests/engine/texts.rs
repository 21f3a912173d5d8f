//! Any text passes unchanged from a template through an action, the engine and the stream into a page (law 12).

use faststate::{BoxError, endpoint::Page, prelude::*};
use faststate_tests::{Random, Session, until};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ADAPTER;
use crate::{
    adapter::shows,
    app::{App, html, seen},
};

const TEXTS: usize = 150;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Book {
    lines: Vec<String>,
    last: String,
}

impl ReactiveState for Book {
    const NAME: &'static str = "book";
}

#[derive(Serialize, Deserialize)]
struct Write {
    line: String,
}

impl Event for Write {
    type State = Book;
    const NAME: &'static str = "write";

    fn apply(&self, book: &mut Book, _: &mut Context<Book>) -> Result<(), Rejection> {
        book.lines.push(self.line.clone());
        book.last.clone_from(&self.line);
        Ok(())
    }
}

fn texts() -> Vec<String> {
    Random::new(7).texts(TEXTS)
}

async fn reading(page: Page) -> Result<String, BoxError> {
    page.follow::<Book>().await?;
    let button = |line: String| format!("<button data-on:click=\"{}\"></button>", Write { line }.action());
    let buttons: String = texts().into_iter().map(button).collect();
    Ok(html(&page, &format!("{buttons}<pre id=\"last\" data-text=\"$book.last\"></pre>")))
}

#[test]
fn law_12_texts_come_back_to_the_page_as_they_were_sent() {
    let config = StateConfig::global().access(Access::public());
    let registry =
        || StateRegistry::builder().state::<Book>(config, |state| state.event::<Write>()).build().unwrap();
    let app = App::serve(ADAPTER, registry, &[("/", shows(reading))]);
    let page = Session::new().open(&app.url());
    let other = Session::new().open(&app.url());
    // One at a time, so that the order is deterministic.
    page.eval(
        "(async () => {
            for (const button of document.querySelectorAll('button')) {
                const finished = new Promise(done => document.addEventListener('datastar-fetch', function heard(event) {
                    if (event.detail.el !== button || event.detail.type != 'finished') return;
                    document.removeEventListener('datastar-fetch', heard);
                    done();
                }));
                button.click();
                await finished;
            }
        })()",
    );
    let expected = json!({ "lines": texts(), "last": texts().last() });
    assert_eq!(app.truth::<Book>(None), expected, "what the server has");
    for page in [&page, &other] {
        until("every text", || seen(page, "book"), |seen| *seen == expected);
    }
    // The same texts in the initial signals of a new page.
    let late = Session::new().open(&app.url());
    assert_eq!(seen(&late, "book"), expected);
    let last: Value = late.eval("document.querySelector('#last').textContent");
    assert_eq!(last, *texts().last().unwrap());
}
