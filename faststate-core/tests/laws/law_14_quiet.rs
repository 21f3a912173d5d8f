//! Law 14: without followers nothing is rendered or encoded, and without a change nothing is sent.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use faststate_core::{
    Access, Context, Elements, Event, ReactiveState, Registry, Rejection, StateConfig, StateRegistry, View,
    Viewer,
};
use serde::{Deserialize, Serialize};

use crate::tab::Tab;

static SIGNALS: AtomicUsize = AtomicUsize::new(0);
static RENDERED: AtomicUsize = AtomicUsize::new(0);
static UPDATED: AtomicUsize = AtomicUsize::new(0);

fn counted() -> (usize, usize, usize) {
    (SIGNALS.swap(0, SeqCst), RENDERED.swap(0, SeqCst), UPDATED.swap(0, SeqCst))
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Quiet {
    value: i64,
    hidden: i64,
}

impl ReactiveState for Quiet {
    const NAME: &'static str = "quiet";

    fn signals(&self) -> impl Serialize {
        SIGNALS.fetch_add(1, SeqCst);
        std::collections::BTreeMap::from([("value", self.value)])
    }
}

#[derive(Serialize, Deserialize)]
struct Set {
    value: i64,
    hidden: i64,
}

impl Event for Set {
    type State = Quiet;
    const NAME: &'static str = "set";

    fn apply(&self, quiet: &mut Quiet, _: &mut Context<Quiet>) -> Result<(), Rejection> {
        (quiet.value, quiet.hidden) = (self.value, self.hidden);
        Ok(())
    }
}

struct Shown;

impl View for Shown {
    type State = Quiet;
    const NAME: &'static str = "shown";

    fn render(&self, quiet: &Quiet) -> Elements {
        RENDERED.fetch_add(1, SeqCst);
        Elements::outer(format!("<p id=\"shown\">{}</p>", quiet.value))
    }

    fn update(&self, before: &Quiet, after: &Quiet) -> Vec<Elements> {
        UPDATED.fetch_add(1, SeqCst);
        if before.value == after.value { Vec::new() } else { vec![self.render(after)] }
    }
}

fn registry() -> Arc<StateRegistry> {
    StateRegistry::builder()
        .state::<Quiet>(StateConfig::global().access(Access::public()), |state| {
            state.event::<Set>().view(Shown)
        })
        .build()
        .unwrap()
}

// One test, because the counters are shared by the process.
#[tokio::test]
async fn law_14_content_is_encoded_only_for_followers_and_once() {
    let registry = registry();
    let quiet = registry.global::<Quiet>().unwrap();
    counted();
    for value in 0..100 {
        quiet.send(Set { value, hidden: 0 }).await.unwrap();
    }
    quiet.read().await.unwrap();
    quiet.delete().await.unwrap();
    assert_eq!(counted(), (0, 0, 0), "without followers");

    // The signals are followed, the view is not.
    let viewer = Viewer::application();
    let mut signals = Tab::open(&registry, &viewer, &["quiet"]).await;
    counted();
    for value in 1..=10 {
        quiet.send(Set { value, hidden: 0 }).await.unwrap();
        signals.read();
    }
    assert_eq!(counted(), (10, 0, 0), "each change is encoded once, and the view is not");

    // A hundred more followers: still once.
    let mut tabs = Vec::new();
    for _ in 0..100 {
        tabs.push(Tab::open(&registry, &viewer, &["quiet", "quiet.shown"]).await);
    }
    counted();
    for value in 11..=20 {
        quiet.send(Set { value, hidden: 0 }).await.unwrap();
        for tab in &mut tabs {
            assert!(tab.read() > 0);
        }
    }
    assert_eq!(
        counted(),
        (10, 11, 10),
        "for any number of followers; the first rendering is compared with the page"
    );

    // A snapshot is encoded once for any number of followers.
    signals.read();
    let mut late = Vec::new();
    for _ in 0..100 {
        let mut tab = Tab::rendered(&registry, &viewer, &["quiet", "quiet.shown"]).await;
        counted();
        tab.connect_at(&registry, |_, _| None).await;
        late.push(tab);
    }
    counted();
    late.iter_mut().for_each(|tab| assert!(tab.read() > 0));
    let (signals_encoded, rendered, updated) = counted();
    assert!(signals_encoded <= 1 && rendered <= 1 && updated == 0, "{signals_encoded} {rendered} {updated}");
    drop((tabs, late));

    // Nothing has changed, or nothing visible.
    quiet.send(Set { value: 20, hidden: 0 }).await.unwrap();
    assert_eq!(signals.read(), 0, "unchanged");
    quiet.send(Set { value: 20, hidden: 1 }).await.unwrap();
    assert_eq!(signals.read(), 0, "nothing visible has changed");
    let mut view = Tab::open(&registry, &viewer, &["quiet.shown"]).await;
    quiet.send(Set { value: 20, hidden: 2 }).await.unwrap();
    assert_eq!(view.read(), 0, "the view returns no elements");

    // The last follower has left.
    drop((signals, view));
    counted();
    quiet.send(Set { value: 21, hidden: 0 }).await.unwrap();
    assert_eq!(counted(), (0, 0, 0), "no followers are left");
}

/// A view that is rendered at each change, often with the same result.
struct Parity;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Number {
    value: i64,
}

impl ReactiveState for Number {
    const NAME: &'static str = "number";
}

impl View for Parity {
    type State = Number;
    const NAME: &'static str = "parity";

    fn render(&self, number: &Number) -> Elements {
        let html = format!("<p id=\"parity\">{}</p>", if number.value % 2 == 0 { "even" } else { "odd" });
        LAST.with_borrow_mut(|last| last.clone_from(&html));
        Elements::outer(html)
    }
}

#[tokio::test]
async fn law_14_view_with_an_unchanged_rendering_is_not_sent() {
    let registry = StateRegistry::builder()
        .state::<Number>(StateConfig::global().access(Access::public()), |state| state.view(Parity))
        .build()
        .unwrap();
    let number = registry.global::<Number>().unwrap();
    let set = |value| {
        number.update(move |number| {
            number.value = value;
            Ok(())
        })
    };
    let mut tab = Tab::open(&registry, &Viewer::application(), &["number.parity"]).await;
    for (value, sent) in [(2, 0), (4, 0), (1, 1), (3, 0), (5, 0), (6, 1), (8, 0), (9, 1)] {
        set(value).await.unwrap();
        assert_eq!(tab.read(), sent, "at {value}");
        assert_eq!(tab.page.html(), Parity.render(&Number { value }).html());
    }
    // A page whose view has not changed is current, although the state has changed.
    set(11).await.unwrap();
    let cursor = tab.cursor(Some("parity"));
    tab.disconnect();
    let topic = tab.topics[0].clone();
    drop(registry.engine().follow(&topic, &Viewer::application(), cursor, 1).await.unwrap());
    tab.connect(&registry).await;
    tab.read();
    assert_eq!(tab.page.html(), LAST.with_borrow(Clone::clone));
}
