//! Map keys and optional values that disappear and return.

use faststate_tests::{Page, Session};

use super::ADAPTER;
use crate::app::{App, Detail};

const BODY: &str = r#"
    <p id="stock" data-text="JSON.stringify($shapes.stock)"></p>
    <p id="milk" data-text="$shapes.stock.milk ?? ''"></p>
    <p id="shelf" data-text="$shapes.shelves?.top?.milk ?? ''"></p>
    <p id="note" data-text="$shapes.note"></p>
    <p id="label" data-text="$shapes.detail?.label ?? ''"></p>
    <p id="tags" data-text="($shapes.detail?.tags || []).join(' ')"></p>
    <p id="list" data-text="JSON.stringify($shapes.list)"></p>
    <p id="large" data-text="$shapes.large"></p>"#;

/// Enough to keep every frame, and none: then every change is a snapshot.
const LOGS: [usize; 2] = [64 * 1024, 0];

/// Three pages, and checks of all of them.
struct Watchers(Vec<Page>);

impl Watchers {
    fn of(app: &App) -> Self {
        Self((0..3).map(|_| Session::new().open(&app.url())).collect())
    }

    fn show(&self, selector: &str, text: &str) {
        self.0.iter().for_each(|page| page.shows(selector, text));
    }
}

#[test]
fn a_map_key_removed_and_added_again_shows_everywhere() {
    for log in LOGS {
        let app = App::shapes(ADAPTER, log, BODY);
        app.change(|shapes| shapes.stock.extend([("milk".to_owned(), 1), ("tea".to_owned(), 2)]));
        let watchers = Watchers::of(&app);
        watchers.show("#stock", r#"{"milk":1,"tea":2}"#);
        watchers.show("#milk", "1");
        for round in 3..6 {
            app.change(|shapes| {
                shapes.stock.remove("milk");
            });
            watchers.show("#milk", "");
            app.change(move |shapes| {
                shapes.stock.insert("milk".to_owned(), round);
            });
            watchers.show("#milk", &round.to_string());
        }
        // All keys at once, and one that never existed.
        app.change(|shapes| shapes.stock.clear());
        watchers.show("#milk", "");
        app.change(|shapes| {
            shapes.stock.insert("rice".to_owned(), 9);
        });
        watchers.0.iter().for_each(|page| page.mentions("#stock", r#""rice":9"#));
        app.change(|shapes| {
            shapes.stock.insert("milk".to_owned(), 8);
        });
        watchers.show("#milk", "8");
    }
}

#[test]
fn a_key_removed_inside_a_map_of_maps_shows_everywhere() {
    for log in LOGS {
        let app = App::shapes(ADAPTER, log, BODY);
        let watchers = Watchers::of(&app);
        let put = |text: Option<&'static str>| {
            app.change(move |shapes| {
                let top = shapes.shelves.entry("top".to_owned()).or_default();
                top.insert("milk".to_owned(), text.map(str::to_owned));
            });
        };
        put(Some("fresh"));
        watchers.show("#shelf", "fresh");
        put(None);
        watchers.show("#shelf", "");
        put(Some("fresh again"));
        watchers.show("#shelf", "fresh again");
        app.change(|shapes| drop(shapes.shelves.get_mut("top").unwrap().remove("milk")));
        watchers.show("#shelf", "");
        put(Some("back"));
        watchers.show("#shelf", "back");
        app.change(|shapes| drop(shapes.shelves.remove("top")));
        watchers.show("#shelf", "");
        put(Some("a new shelf"));
        watchers.show("#shelf", "a new shelf");
    }
}

#[test]
fn an_option_set_cleared_and_set_again_shows_everywhere() {
    for log in LOGS {
        let app = App::shapes(ADAPTER, log, BODY);
        let watchers = Watchers::of(&app);
        for round in ["one", "two", "three"] {
            app.change(move |shapes| shapes.note = Some(round.to_owned()));
            watchers.show("#note", round);
            app.change(|shapes| shapes.note = None);
            watchers.show("#note", "");
        }
    }
}

#[test]
fn an_optional_struct_set_cleared_and_set_again_shows_everywhere() {
    for log in LOGS {
        let app = App::shapes(ADAPTER, log, BODY);
        let watchers = Watchers::of(&app);
        for round in ["one", "two", "three"] {
            app.change(move |shapes| {
                let tags = vec!["a".to_owned(), round.to_owned()];
                shapes.detail = Some(Detail { label: Some(round.to_owned()), tags });
            });
            watchers.show("#label", round);
            watchers.show("#tags", &format!("a {round}"));
            app.change(|shapes| shapes.detail.as_mut().unwrap().label = None);
            watchers.show("#label", "");
            app.change(|shapes| shapes.detail = None);
            watchers.show("#tags", "");
        }
    }
}

#[test]
fn a_list_that_grows_and_shrinks_shows_everywhere() {
    let app = App::shapes(ADAPTER, LOGS[0], BODY);
    let watchers = Watchers::of(&app);
    app.change(|shapes| shapes.list = vec![None, Some(Detail::default())]);
    watchers.show("#list", r#"["",{"label":"","tags":[]}]"#);
    app.change(|shapes| drop(shapes.list.remove(0)));
    watchers.show("#list", r#"[{"label":"","tags":[]}]"#);
    app.change(|shapes| shapes.list.clear());
    watchers.show("#list", "[]");
}

#[test]
fn a_number_that_javascript_cannot_count_shows_every_digit() {
    let app = App::shapes(ADAPTER, LOGS[0], BODY);
    let watchers = Watchers::of(&app);
    for large in [(1 << 53) - 1, 1 << 53, (1 << 53) + 1, u64::MAX, 7] {
        app.change(move |shapes| shapes.large = large);
        watchers.show("#large", &large.to_string());
    }
}
