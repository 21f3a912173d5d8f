//! Random changes over an unreliable connection (law 4).

use faststate_tests::{Page, Proxy, Random, Session, until};
use serde_json::Value;

use super::ADAPTER;
use crate::app::{App, Detail, Shapes, seen};

const BODY: &str = r#"<pre id="all" data-text="JSON.stringify($shapes)"></pre>"#;

const CUT: &[&str] =
    &["ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION", "ERR_ABORTED"];

/// Changes a random part of the state to a value that is difficult to encode.
fn change(random: &mut Random) -> impl Fn(&mut Shapes) + Send + Sync + 'static {
    let (what, number) = (random.below(12), random.below(1000));
    let text = random.text();
    let key = ["milk", "tea", "a.b", "", "x y", "é", "0", "-1", "length"][random.below(9)].to_owned();
    let other = ["top", "low", "toJSON", "then", "name"][random.below(5)].to_owned();
    move |shapes| match what {
        0 | 1 => drop(shapes.stock.insert(key.clone(), number as i64 - 500)),
        2 => drop(shapes.stock.remove(&key)),
        3 => shapes.stock.clear(),
        4 | 5 => {
            drop(shapes.shelves.entry(other.clone()).or_default().insert(key.clone(), Some(text.clone())))
        }
        6 => drop(shapes.shelves.entry(other.clone()).or_default().remove(&key)),
        7 => drop(shapes.shelves.remove(&other)),
        8 => shapes.note = Some(text.clone()).filter(|_| number % 3 > 0),
        9 => {
            let tags = vec![text.clone(); number % 3];
            shapes.detail = Some(Detail { label: Some(key.clone()), tags }).filter(|_| number % 4 > 0);
        }
        10 => {
            shapes.list.push(shapes.detail.clone());
            shapes.list.truncate(number % 5);
        }
        _ => shapes.large = number as u64 * 18_014_398_509_481_983,
    }
}

fn equals(page: &Page, truth: &Value) {
    until("the page to equal the truth", || seen(page, "shapes"), |seen| seen == truth);
}

#[test]
fn law_04_pages_equal_the_truth_after_any_changes() {
    let app = App::shapes(ADAPTER, 64 * 1024, BODY);
    let always = Session::new().open(&app.url());
    let now_and_then = Session::new().open(&app.url());
    let mut random = Random::new(4);
    for round in 0..8 {
        if round % 2 == 0 {
            now_and_then.hide()
        } else {
            now_and_then.show()
        }
        for _ in 0..25 {
            app.change(change(&mut random));
        }
        let truth = app.truth::<Shapes>(None);
        equals(&always, &truth);
        if round % 2 == 1 {
            equals(&now_and_then, &truth);
        }
    }
    equals(&Session::new().open(&app.url()), &app.truth::<Shapes>(None));
}

#[test]
fn law_04_pages_equal_the_truth_after_cuts_in_the_middle_of_anything() {
    for log in [64 * 1024, 300] {
        let app = App::shapes(ADAPTER, log, BODY);
        let proxy = Proxy::to(app.address());
        let page = Session::new().open(&proxy.url("/"));
        page.expect_complaints(CUT);
        let mut random = Random::new(5 + log as u64);
        app.change(change(&mut random));
        for _ in 0..4 {
            equals(&page, &app.truth::<Shapes>(None));
            proxy.cut_after(random.below(400));
            until("the cut", || app.change(change(&mut random)), |()| proxy.has_cut());
            (0..10).for_each(|_| app.change(change(&mut random)));
        }
        equals(&page, &app.truth::<Shapes>(None));
    }
}
