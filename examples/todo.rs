//! A to-do list that two people share: `cargo run --example todo`, then http://127.0.0.1:5000 as `ada` in one
//! browser and as `ben` in another. Each password equals the name; `PEOPLE` lists both as browsers encode them.

use askama::Template;
use faststate::{BoxError, endpoint::Identity, prelude::*, registry::StateBuilder, salvo as fast};
use salvo::{http::header, prelude::*};
use serde::{Deserialize, Serialize};

const PEOPLE: [(&str, &str); 2] = [("ada", "Basic YWRhOmFkYQ=="), ("ben", "Basic YmVuOmJlbg==")];

/// The list of tasks, each with its author, and its view as HTML. The template escapes text.
#[derive(Clone, Default, Serialize, Deserialize, Template)]
#[template(
    ext = "html",
    source = r#"<ul id="list">{% for (text, by, done) in items %}<li id="item-{{ loop.index0 }}">{{ text }} ({{ by }})
    {% if !done %}<button data-on:click="{{ crate::tick(loop.index0) }}">Done</button>{% endif %}</li>{% endfor %}</ul>"#
)]
struct Todo {
    items: Vec<(String, String, bool)>,
}

impl ReactiveState for Todo {
    const NAME: &'static str = "todo";
}

#[derive(Serialize, Deserialize)]
struct Add {
    text: String,
}

impl Event for Add {
    type State = Todo;
    const NAME: &'static str = "add";

    fn apply(&self, todo: &mut Todo, context: &mut Context<Todo>) -> Result<(), Rejection> {
        todo.items.push((self.text.clone(), context.viewer().user().unwrap_or_default().into(), false));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Tick {
    item: usize,
}

impl Event for Tick {
    type State = Todo;
    const NAME: &'static str = "tick";

    fn apply(&self, todo: &mut Todo, _: &mut Context<Todo>) -> Result<(), Rejection> {
        todo.items.get_mut(self.item).ok_or(Rejection::not_found("there is no such item"))?.2 = true;
        Ok(())
    }
}

fn tick(item: &usize) -> Action {
    Tick { item: *item }.action()
}

struct List;

impl View for List {
    type State = Todo;
    const NAME: &'static str = "list";

    fn render(&self, todo: &Todo) -> Elements {
        Elements::outer(todo.to_string())
    }
}

#[handler]
async fn index(page: fast::Page, response: &mut Response) -> Result<(), fast::PageError> {
    if page.viewer().user().is_none() {
        response.status_code(StatusCode::UNAUTHORIZED).add_header(header::WWW_AUTHENTICATE, "Basic", true)?;
        return Ok(());
    }
    let (list, add) = (page.view::<List>().await?, Add { text: String::new() }.action().bind("text", "text"));
    let (script, signals, follow) = (page.datastar_script(), page.signals(), page.follow_action());
    response.render(Text::Html(format!(
        r#"<!doctype html><title>To do</title>{script}<body data-signals="{signals}" data-init="{follow}">{}
        <form data-on:submit="{add}"><input aria-label="To do" data-bind="text"> <button>Add</button>"#,
        list.html()
    )));
    Ok(())
}

fn site() -> Result<fast::FastState, BoxError> {
    let shared = StateConfig::global().access(Access::signed_in());
    let whole = |todo: StateBuilder<Todo>| todo.event::<Add>().event::<Tick>().view(List);
    let registry = StateRegistry::builder().state(shared, whole).build()?;
    Ok(fast::FastState::new(registry).identity(|head| {
        let said = head.headers.get(header::AUTHORIZATION);
        let person = PEOPLE.iter().find(|person| said.is_some_and(|said| said == person.1));
        std::future::ready(person.map_or(Identity::nobody(), |person| Identity::user(person.0)))
    }))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into());
    Ok(site()?.serve(address, Router::new().get(index)).await?)
}

/// `cargo test --example todo --features testing`
#[cfg(all(test, feature = "testing"))]
#[tokio::test]
async fn two_people_share_the_list() {
    use faststate::testing::{Browser, InProcess as _};

    let app = site().unwrap().app(Router::new().get(index));
    let [mut ada, mut ben] = PEOPLE.map(|(_, password)| Browser::new(&app).header("authorization", password));
    ada.visit("/").await;
    ben.visit("/").await;
    ada.fill("text", "<milk>").click("Add").await.assert_changed();
    ben.settle().await;
    ben.assert_text("#list li", "<milk> (ada) Done");
    ben.click("Done").await.assert_changed();
    ada.settle().await;
    ada.assert_text("#list", "<milk> (ada)");
    ada.assert_current().await;

    let mut stranger = Browser::new(&app);
    stranger.visit("/").await;
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
    stranger.send(&Tick { item: 0 }).await.assert_problem("not_found");
}
