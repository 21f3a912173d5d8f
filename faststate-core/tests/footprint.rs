//! Law 6: the memory of followers that read nothing, measured in a separate process.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use faststate_core::{
    Access, ReactiveState, Registry, StateConfig, StateRegistry, Viewer, internal::TopicName,
};
use faststate_testkit::page::BrowserPage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Text {
    text: String,
}

impl ReactiveState for Text {
    const NAME: &'static str = "text";
}

/// The resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn law_06_silent_follower_has_constant_cost_and_catches_up() {
    const FOLLOWERS: u64 = 200;
    const CHANGES: usize = 10_000;
    const SIZE: usize = 8 * 1024;
    let registry = StateRegistry::builder()
        .state::<Text>(StateConfig::global().access(Access::public()), |state| state)
        .build()
        .unwrap();
    let (text, topic) = (registry.global::<Text>().unwrap(), TopicName::signals("text"));
    let registry: Arc<dyn Registry> = registry;
    let viewer = Viewer::application();
    let mut followers = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    for stream in 0..FOLLOWERS {
        let mut follower = registry.engine().follow(&topic, &viewer, None, stream).await.unwrap();
        assert!(
            follower.poll_frames(&mut cx, false).is_ready()
                && follower.poll_frames(&mut cx, false).is_pending()
        );
        followers.push(follower);
    }
    let write = |at: usize| {
        text.update(move |text| {
            text.text = format!("{at} {}", "x".repeat(SIZE));
            Ok(())
        })
    };
    for at in 0..100 {
        write(at).await.unwrap();
    }
    let before = resident();
    for at in 0..CHANGES {
        write(at).await.unwrap();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{CHANGES} changes of {SIZE} bytes grew it by {grown}");

    let truth = serde_json::to_value(&*text.read().await.unwrap()).unwrap();
    for follower in &mut followers {
        let mut page = BrowserPage::new();
        let mut bytes = 0;
        while let Poll::Ready(piece) = follower.poll_frames(&mut cx, false) {
            let piece = piece.unwrap();
            bytes += piece.len();
            page.feed(&piece).unwrap();
        }
        page.follows(text.key(), &truth).unwrap();
        assert!(bytes < 2 * SIZE, "it receives a snapshot, not every change: {bytes} bytes");
    }
    drop(followers);
    assert_eq!(registry.engine().followers(text.key()), 0);
}
