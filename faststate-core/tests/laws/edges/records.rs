//! Records that hang, are deleted, or belong to a newer version of the application.

use faststate_core::{Elements, SessionId, View};

use super::*;
use crate::board::call;

#[tokio::test(start_paused = true)]
async fn law_13_hanging_initial_is_an_error() {
    let exist = Arc::default();
    let registry = notes(&exist, |builder| builder, |config| config);
    let note = registry.record::<Note>("z").unwrap();
    for _ in 0..3 {
        let asked = Instant::now();
        assert!(matches!(note.read().await, Err(Error::TimedOut)));
        assert!(asked.elapsed() <= Duration::from_secs(2));
    }
    exist.store(true, Ordering::SeqCst);
    assert_eq!(note.read().await.unwrap().text, "new", "the instance still works");
}

#[tokio::test]
async fn law_04_deleted_record_is_gone_on_every_node() {
    let exist = Arc::new(AtomicBool::new(true));
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let peer = hub.peer();
    let a = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(hub), |c| c.persist());
    let b = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(peer), |c| c.persist());
    let (here, there) = (a.record::<Note>("a").unwrap(), b.record::<Note>("a").unwrap());
    here.send(Write { text: "hello".to_owned() }).await.unwrap();
    let viewer = Viewer::application();
    let mut tabs = [Tab::open(&a, &viewer, &["note:a"]).await, Tab::open(&b, &viewer, &["note:a"]).await];
    exist.store(false, Ordering::SeqCst);
    here.delete().await.unwrap();
    for tab in &mut tabs {
        let piece = tab.next().await;
        tab.page.feed(&piece).unwrap();
        tab.read();
        assert!(gone(tab));
        tab.follows(&Note { text: "hello".to_owned() });
    }
    for note in [&here, &there] {
        for _ in 0..2 {
            assert!(matches!(note.read().await, Err(Error::Unknown)));
            assert!(matches!(note.send(Write { text: "x".to_owned() }).await, Err(Error::Unknown)));
        }
    }
    exist.store(true, Ordering::SeqCst);
    there.send(Write { text: "again".to_owned() }).await.unwrap();
    assert_eq!(here.read().await.unwrap().text, "again");
    for tab in &mut tabs {
        let piece = tab.next().await;
        tab.page.feed(&piece).unwrap();
        tab.read();
        tab.follows(&Note { text: "again".to_owned() });
        assert!(!gone(tab));
    }
}

/// A signal that tells the page whether the note was deleted.
fn gone(tab: &Tab) -> bool {
    tab.page.signals()["note"]["a"]["_gone"] == true
}

struct Paper;

impl View for Paper {
    type State = Note;
    const NAME: &'static str = "paper";

    fn render(&self, note: &Note) -> Elements {
        Elements::outer(format!("<p id=\"paper\">{}</p>", note.text))
    }

    fn gone(&self, last: &Note) -> Option<Elements> {
        Some(Elements::outer(format!("<p id=\"paper\">deleted: {}</p>", last.text)))
    }
}

#[tokio::test]
async fn law_04_deleted_record_stays_gone_until_the_application_creates_it() {
    let config = StateConfig::record().access(Access::public());
    let registry = StateRegistry::builder()
        .state::<Note>(config, |state| state.event::<Write>().view(Paper))
        .build()
        .unwrap();
    let (note, viewer) = (registry.record::<Note>("a").unwrap(), Viewer::session(SessionId::random()));
    note.send(Write { text: "hello".to_owned() }).await.unwrap();
    let mut tab = Tab::open(&registry, &viewer, &["note:a", "note:a.paper"]).await;
    note.delete().await.unwrap();
    tab.read();
    tab.follows(&Note { text: "hello".to_owned() });
    assert!(gone(&tab));
    assert!(tab.page.html().contains("deleted: hello"), "{}", tab.page.html());

    let click = || {
        let mut call = call(note.key(), "write", "text=x", None);
        call.viewer = viewer.clone();
        registry.dispatch(call)
    };
    for _ in 0..2 {
        assert!(matches!(click().await, Err(Error::Unknown)), "a page's event creates nothing");
        assert!(matches!(note.read().await, Err(Error::Unknown)));
    }
    note.send(Write { text: "again".to_owned() }).await.unwrap();
    tab.read();
    tab.follows(&Note { text: "again".to_owned() });
    assert!(!gone(&tab));
    assert!(tab.page.html().contains(">again<"), "{}", tab.page.html());
    click().await.unwrap();
}

/// The note of a newer version of the application.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct NewNote {
    text: String,
    #[serde(default)]
    color: String,
}

impl ReactiveState for NewNote {
    const NAME: &'static str = "note";
    const SCHEMA: u32 = 2;
}

#[tokio::test]
async fn newer_schema_is_read_only_for_an_older_node() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = LocalBroadcaster::new();
    let peer = hub.peer();
    let exist = Arc::new(AtomicBool::new(true));
    let old = notes(&exist, |b| b.store(Arc::clone(&memory)).broadcaster(hub), |c| c.persist());
    let new = StateRegistry::builder()
        .store(memory)
        .broadcaster(peer)
        .state::<NewNote>(StateConfig::record().access(Access::public()).persist(), |state| state)
        .build()
        .unwrap();
    let (older, newer) = (old.record::<Note>("a").unwrap(), new.record::<NewNote>("a").unwrap());
    older.send(Write { text: "one".to_owned() }).await.unwrap();
    let mut tab = Tab::open(&old, &Viewer::application(), &["note:a"]).await;
    newer
        .update(|note| {
            note.color = "red".to_owned();
            note.text = "two".to_owned();
            Ok(())
        })
        .await
        .unwrap();
    let piece = tab.next().await;
    tab.page.feed(&piece).unwrap();
    tab.follows(&Note { text: "two".to_owned() });
    assert!(matches!(older.send(Write { text: "three".to_owned() }).await, Err(Error::Busy(_))));
    assert_eq!(newer.read().await.unwrap().color, "red");
}
