//! Laws 4 and 5: once a stream is quiet, its page shows the truth whatever happened to the connection, and it never goes
//! backwards (the page itself refuses an older version).

use std::{sync::Arc, time::Duration};

use faststate_core::{Access, Elements, SessionId, StateConfig, StateRegistry, Version, Viewer};
use faststate_testkit::page::BrowserPage;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    board::{Board, board, registry, registry_with_long_deadline, with},
    tab::Tab,
};

/// The cursors with which a browser may reconnect.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// The page's current cursor.
    Current,
    /// The last event id of the stream.
    LastEventId,
    /// No cursor, as from a reloaded page; an invalid cursor is treated as none.
    None,
    /// An earlier cursor of the page.
    Old,
    /// A cursor ahead of this node.
    Future,
    /// The same sequence number with another nonce.
    OtherBranch,
    /// A cursor of another epoch.
    Foreign,
}

const CURSORS: [Cursor; 9] = [
    Cursor::Current,
    Cursor::Current,
    Cursor::Current,
    Cursor::LastEventId,
    Cursor::None,
    Cursor::Old,
    Cursor::Future,
    Cursor::OtherBranch,
    Cursor::Foreign,
];

fn cursor(kind: Cursor, tab: &Tab, view: Option<&str>, dice: &mut StdRng) -> Option<Version> {
    let held = tab.cursor(view);
    match kind {
        Cursor::Current => held,
        Cursor::LastEventId if tab.topics.len() == 1 => tab.page.last_event_id().parse().ok().or(held),
        Cursor::LastEventId | Cursor::None => None,
        Cursor::Old => {
            let seen: Vec<_> = tab.page.versions(&tab.key, view).collect();
            (!seen.is_empty()).then(|| seen[dice.random_range(0..seen.len())])
        }
        Cursor::Future => held.map(|held| Version { seq: held.seq + dice.random_range(1..50), ..held }),
        Cursor::OtherBranch => held.map(|held| Version { nonce: held.nonce ^ 1, ..held }),
        Cursor::Foreign => Some(Version::start()),
    }
}

/// Changes a board while its stream is cut at random points and reopened with random cursors, 1,000 times.
async fn storm(registry: Arc<StateRegistry>, topics: &[&str], seed: u64, deletes: bool) {
    let mut dice = StdRng::seed_from_u64(seed);
    let viewer = Viewer::application();
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &viewer, topics).await;
    for round in 0..1_000 {
        for _ in 0..dice.random_range(0..6) {
            let seed = dice.random();
            board
                .update(move |board: &mut Board| {
                    board.shake(&mut StdRng::seed_from_u64(seed));
                    Ok(())
                })
                .await
                .unwrap();
            if dice.random_range(0..3) == 0 {
                tab.read();
            }
        }
        if deletes && dice.random_range(0..40) == 0 {
            board.delete().await.unwrap();
        }
        // Cut the stream inside the next piece or after it.
        if let Some(piece) = tab.piece() {
            tab.page.feed(&piece[..dice.random_range(0..=piece.len())]).unwrap();
        }
        let kind = CURSORS[dice.random_range(0..CURSORS.len())];
        if matches!(kind, Cursor::Old | Cursor::LastEventId) {
            // The page requests older versions, so it receives them again before the newer ones.
            tab.page.forget_versions();
        }
        let cursors: Vec<_> = tab.topics.iter().map(|topic| topic.view.clone()).collect();
        let cursors: Vec<_> = cursors
            .iter()
            .map(|view| (view.clone(), cursor(kind, &tab, view.as_deref(), &mut dice)))
            .collect();
        tab.connect_at(&registry, |_, view| {
            cursors.iter().find(|(name, _)| name.as_deref() == view).and_then(|(_, cursor)| *cursor)
        })
        .await;
        if dice.random::<bool>() {
            tab.read();
            let truth = board.read().await.unwrap();
            tab.shows(&truth)
                .unwrap_or_else(|failure| panic!("seed {seed}, round {round}, {kind:?}: {failure}"));
            tab.topics.iter().for_each(|topic| {
                let held = tab.cursor(topic.view.as_deref());
                assert!(held.is_some(), "the page holds a cursor of {topic}");
            });
        }
    }
    tab.read();
    tab.shows(&board.read().await.unwrap()).unwrap();
}

#[tokio::test]
async fn law_04_signals_survive_a_thousand_reconnects() {
    for seed in 0..4 {
        storm(registry(), &["board"], seed, false).await;
    }
}

#[tokio::test]
async fn law_04_view_survives_a_thousand_reconnects() {
    for seed in 10..14 {
        storm(registry(), &["board.lines"], seed, false).await;
    }
}

#[tokio::test]
async fn law_04_shared_stream_survives_a_thousand_reconnects() {
    for seed in 20..24 {
        storm(registry(), &["board", "board.lines", "board.title"], seed, true).await;
    }
}

#[tokio::test]
async fn law_04_small_replay_buffer_is_enough() {
    for (seed, log) in [(30, 0), (31, 300), (32, 2_000)] {
        let registry = with(|builder| builder, |config| config.replay_buffer_bytes(log));
        storm(registry, &["board", "board.lines"], seed, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn law_04_tabs_reconnect_while_several_tasks_write() {
    let registry = registry_with_long_deadline();
    let writers = (0..4).map(|writer| {
        let board = board(&registry);
        tokio::spawn(async move {
            for at in 0..500 {
                board
                    .update(move |board: &mut Board| {
                        board.shake(&mut StdRng::seed_from_u64(writer * 10_000 + at));
                        Ok(())
                    })
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let tabs = (0..16).map(|at| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let mut dice = StdRng::seed_from_u64(at);
            let topics: &[_] = if at % 2 == 0 { &["board", "board.lines"] } else { &["board.title"] };
            let mut tab = Tab::open(&registry, &Viewer::application(), topics).await;
            for _ in 0..100 {
                if let Ok(piece) = tokio::time::timeout(Duration::from_millis(20), tab.next()).await {
                    tab.page.feed(&piece[..dice.random_range(0..=piece.len())]).unwrap();
                }
                tab.connect(&registry).await;
            }
            tab
        })
    });
    let tabs: Vec<_> = tabs.collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let truth = board(&registry).read().await.unwrap();
    for tab in tabs {
        let mut tab = tab.await.unwrap();
        tab.read();
        tab.shows(&truth).unwrap();
    }
}

#[tokio::test]
async fn law_04_changes_between_rendering_and_following_are_sent() {
    let registry = registry();
    let board = board(&registry);
    let viewer = Viewer::application();
    for changes in [0, 1, 500] {
        let mut tab = Tab::rendered(&registry, &viewer, &["board", "board.lines"]).await;
        for _ in 0..changes {
            board
                .update(|board: &mut Board| {
                    board.shake(&mut StdRng::seed_from_u64(7 + board.big + board.count.unsigned_abs()));
                    board.count += 1;
                    Ok(())
                })
                .await
                .unwrap();
        }
        tab.connect(&registry).await;
        let pieces = tab.read();
        assert_eq!(pieces == 0, changes == 0, "the page's own content is not sent again");
        tab.shows(&board.read().await.unwrap()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_expired_session_starts_over_on_its_page() {
    let ttl = Duration::from_secs(60);
    let registry = StateRegistry::builder()
        .state::<Board>(StateConfig::session().access(Access::public()).ttl(ttl), |state| {
            state.view(crate::board::Lines)
        })
        .build()
        .unwrap();
    let viewer = Viewer::session(SessionId::random());
    let board = registry.handle::<Board>(&viewer, None).unwrap();
    let mut dice = StdRng::seed_from_u64(40);
    for _ in 0..30 {
        let seed = dice.random();
        board
            .update(move |board| {
                board.count += 1;
                board.shake(&mut StdRng::seed_from_u64(seed));
                Ok(())
            })
            .await
            .unwrap();
    }
    let mut tab = Tab::open(&registry, &viewer, &["board", "board.lines"]).await;

    // While it is followed, it does not expire, even without events.
    tokio::time::sleep(ttl * 10).await;
    let truth = board.read().await.unwrap();
    assert!(truth.count >= 30, "it expired under a follower");
    tab.read();
    tab.shows(&truth).unwrap();

    // Without a follower it expires, and the page shows this when it reconnects with its cursors.
    tab.disconnect();
    tokio::time::sleep(ttl * 3).await;
    tab.connect(&registry).await;
    tab.read();
    tab.shows(&Board::default()).unwrap();
}

#[tokio::test]
async fn law_04_deletion_is_seen_by_followers() {
    let registry = registry();
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board", "board.lines"]).await;
    for seed in 0..20 {
        board
            .update(move |board: &mut Board| {
                board.count += 1;
                board.shake(&mut StdRng::seed_from_u64(seed));
                Ok(())
            })
            .await
            .unwrap();
    }
    board.delete().await.unwrap();
    tab.read();
    tab.shows(&Board::default()).unwrap();
    let versions: Vec<_> = tab.page.versions(&tab.key, None).collect();
    assert_ne!(versions[versions.len() - 1].epoch, versions[0].epoch, "under a new epoch");
}

/// The other tests rely on the page to detect violations, so the page itself is tested.
#[test]
fn law_05_page_refuses_to_go_backwards() {
    let signals = |version: Version| {
        format!("event: datastar-patch-signals\ndata: signals {{\"board\":{{\"_v\":\"{version}\"}}}}\n\n")
    };
    let first = Version::start();
    let (second, other) = (first.next(), Version::start());
    let feed = |versions: &[Version]| {
        let mut page = BrowserPage::new();
        versions.iter().try_for_each(|version| page.feed(signals(*version).as_bytes()))
    };
    assert!(feed(&[first, first, second, second, other]).is_ok());
    for backwards in [&[second, first][..], &[first.next(), second], &[second, other, second]] {
        assert!(feed(backwards).is_err(), "{backwards:?}");
    }
}

#[tokio::test]
async fn law_05_stream_with_ids_ends_with_the_newest_id() {
    let registry = registry();
    let board = board(&registry);
    for view in ["board.title", "board"] {
        let mut tab = Tab::open(&registry, &Viewer::application(), &[view]).await;
        for count in 0..5 {
            let title = format!("{view} {count}");
            board
                .update(move |board: &mut Board| {
                    board.title.clone_from(&title);
                    Ok(())
                })
                .await
                .unwrap();
        }
        // Only the signals show this change. The last id of a view's stream is that of its last frame.
        board
            .update(|board: &mut Board| {
                board.count += 1;
                Ok(())
            })
            .await
            .unwrap();
        tab.read();
        let id: Option<Version> = tab.page.last_event_id().parse().ok();
        assert_eq!(id, tab.cursor(tab.topics[0].view.as_deref()), "{view}");
    }
}

#[tokio::test]
async fn law_12_user_text_stays_inside_its_sse_event() {
    let registry = registry();
    let board = board(&registry);
    let mut tab = Tab::open(&registry, &Viewer::application(), &["board", "board.title"]).await;
    for text in [
        "a\rb",
        "a\r\nb",
        "\n\ndata: x",
        "\revent: datastar-patch-signals\rdata: signals {}\r\r",
        "\u{2028}",
        "\0",
    ] {
        board
            .update(move |board: &mut Board| {
                text.clone_into(&mut board.title);
                Ok(())
            })
            .await
            .unwrap();
        tab.read();
        let truth = board.read().await.unwrap();
        tab.page.follows(&tab.key, &serde_json::to_value(&*truth).unwrap()).unwrap();
        let html = text.replace("\r\n", "\n").replace('\r', "\n");
        let expected = Elements::outer(format!("<h1 id=\"title\">{html}</h1>"));
        assert!(tab.page.html().contains(expected.html()), "{:?} of {text:?}", tab.page.html());
    }
}
