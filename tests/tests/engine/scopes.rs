//! Records, components, and pages that change states without following them.

use ::http::Method;
use faststate::{BoxError, Key, KeyError, Scope, endpoint::Page, prelude::*};
use faststate_tests::{Session, http};
use serde::{Deserialize, Serialize};

use super::ADAPTER;
use crate::{
    adapter::shows,
    app::{App, html},
};

/// Ids with a meaning in paths, queries, topics, selectors or signals.
const IDS: [&str; 6] = ["p1", "1", "a b", "x.y:z,w/%2F?&#+'\"", "constructor", "Ünïcødé 😀"];

#[derive(Clone, Default, Serialize, Deserialize)]
struct Product {
    price: i64,
}

impl ReactiveState for Product {
    const NAME: &'static str = "product";
}

#[derive(Serialize, Deserialize)]
struct Reprice {
    by: i64,
}

impl Event for Reprice {
    type State = Product;
    const NAME: &'static str = "reprice";

    fn apply(&self, product: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> {
        product.price += self.by;
        Ok(())
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Panel {
    open: bool,
}

impl ReactiveState for Panel {
    const NAME: &'static str = "panel";
}

#[derive(Serialize, Deserialize)]
struct Toggle {}

impl Event for Toggle {
    type State = Panel;
    const NAME: &'static str = "toggle";
    const METHOD: Method = Method::PUT;
    const PATH: Option<&'static str> = Some("/panels/{id}/toggled");

    fn apply(&self, panel: &mut Panel, _: &mut Context<Panel>) -> Result<(), Rejection> {
        panel.open = !panel.open;
        Ok(())
    }
}

fn registry() -> std::sync::Arc<StateRegistry> {
    let product = StateConfig::record().access(Access::public());
    StateRegistry::builder()
        .state::<Product>(product, |state| {
            let known =
                |key: Key| async move { key.id().filter(|id| id != "none").map(|_| Product { price: 10 }) };
            state.event::<Reprice>().initial(known)
        })
        .state::<Panel>(StateConfig::component(), |state| state.event::<Toggle>())
        .build()
        .unwrap()
}

/// The path of an instance's signals in a template.
fn path(key: Result<Key, KeyError>) -> String {
    format!("${}", key.unwrap().signal_path().join("."))
}

async fn shop(page: Page) -> Result<String, BoxError> {
    let mut body = String::new();
    for (at, id) in IDS.iter().enumerate() {
        page.follow_id::<Product>(id).await?;
        page.follow_id::<Panel>(id).await?;
        body += &format!(
            "<button id=\"reprice{at}\" data-on:click=\"{}\">+</button> <b id=\"price{at}\" data-text=\"{}.price\"></b>
            <button id=\"toggle{at}\" data-on:click=\"{}\">!</button> <b id=\"open{at}\" data-text=\"{}.open\"></b><br>",
            Reprice { by: 1 }.action().on(id),
            path(Key::new("product", Scope::Record, None, Some(id))),
            Toggle {}.action().on(id),
            path(Key::new("panel", Scope::Component, Some("any"), Some(id))),
        );
    }
    Ok(html(&page, &body))
}

async fn till(page: Page) -> Result<String, BoxError> {
    let action = Reprice { by: 5 }.action().on("p1").with_reply();
    let body = format!(
        "<button data-on:click=\"{action}\">+</button><b id=\"price\" data-text=\"$product?.p1?.price ?? ''\"></b>"
    );
    Ok(html(&page, &body))
}

fn app() -> App {
    App::serve(ADAPTER, registry, &[("/", shows(shop)), ("/till", shows(till))])
}

#[test]
fn law_11_records_of_any_id_are_followed_and_changed_each_for_itself() {
    let app = app();
    let (page, other) = (Session::new().open(&app.url()), Session::new().open(&app.url()));
    for at in 0..IDS.len() {
        for _ in 0..=at {
            page.click(&format!("#reprice{at}"));
        }
    }
    for page in [&page, &other] {
        for at in 0..IDS.len() {
            page.shows(&format!("#price{at}"), &(11 + at).to_string());
        }
    }
    for (at, id) in IDS.iter().enumerate() {
        assert_eq!(app.truth::<Product>(Some(id))["price"], 11 + at, "{id}");
    }
}

#[test]
fn law_08_components_belong_to_a_session() {
    let app = app();
    let ada = Session::new();
    let (page, second, other) = (ada.open(&app.url()), ada.open(&app.url()), Session::new().open(&app.url()));
    for at in 0..IDS.len() {
        page.click(&format!("#toggle{at}"));
        second.shows(&format!("#open{at}"), "true");
    }
    other.click("#toggle0");
    other.shows("#open0", "true");
    other.shows("#open1", "false");
    page.click("#toggle1");
    second.shows("#open1", "false");
    page.shows("#open0", "true");
}

#[test]
fn law_05_a_page_that_does_not_follow_gets_the_view_in_the_reply() {
    let app = app();
    let page = Session::new().open(&format!("{}till", app.url()));
    page.click("button");
    page.shows("#price", "15");
    page.click("button");
    page.shows("#price", "20");
    assert_eq!(page.signal("product.p1._v"), serde_json::Value::Null, "no stream, so no cursor");
}

#[test]
fn a_record_that_does_not_exist_is_answered_and_not_made() {
    let app = app();
    let answer = http::post(app.address(), "/faststate/product/none/reprice", r#"{"by":1}"#).unwrap();
    assert_eq!(answer.status, 404, "{}", answer.text());
}
