//! Elements of `Context::broadcast` reach every node, in order with the change that they belong to.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
};

use faststate_core::{
    Access, Context, Elements, Event, LocalBroadcaster, MemoryStore, ReactiveState, Registry as _, Rejection,
    StateConfig, StateRegistry, Viewer,
    internal::{Follower, TopicName},
    registry::Applied,
};
use faststate_testkit::faults::{BroadcastFault, FaultyBroadcaster, FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};

use crate::board::until;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Chat {
    texts: usize,
}

impl ReactiveState for Chat {
    const NAME: &'static str = "chat";
}

/// Sends a toast to all followers, and optionally counts it.
#[derive(Serialize, Deserialize)]
struct Say {
    text: String,
    counts: bool,
}

impl Event for Say {
    type State = Chat;
    const NAME: &'static str = "say";

    fn apply(&self, chat: &mut Chat, context: &mut Context<Chat>) -> Result<(), Rejection> {
        chat.texts += usize::from(self.counts);
        context.broadcast(Elements::append("#toasts", "toast", format!("<p id=\"toast\">{}</p>", self.text)));
        Ok(())
    }
}

struct Nodes {
    registries: [Arc<StateRegistry>; 2],
    stores: [Arc<FaultyStore>; 2],
    /// The broadcaster of the second node.
    ear: Arc<FaultyBroadcaster>,
}

fn nodes() -> Nodes {
    let (memory, hub) = (Arc::new(MemoryStore::new()), LocalBroadcaster::new());
    let ears = [hub.peer(), hub].map(|broadcaster| FaultyBroadcaster::new(Arc::new(broadcaster)));
    let stores = [(); 2].map(|()| FaultyStore::new(Arc::<MemoryStore>::clone(&memory)));
    let node = |at: usize| {
        let config = StateConfig::global().access(Access::public()).persist();
        StateRegistry::builder()
            .store(Arc::clone(&stores[at]))
            .broadcaster(Arc::clone(&ears[at]))
            .state::<Chat>(config, |state| state.event::<Say>())
            .build()
            .unwrap()
    };
    let [_, ear] = ears.clone();
    Nodes { registries: [node(0), node(1)], stores: stores.clone(), ear }
}

async fn follow(node: &StateRegistry) -> Follower {
    let topic = TopicName::signals("chat");
    let mut follower =
        node.engine().follow(&topic, &Viewer::application(), None, rand::random()).await.unwrap();
    assert!(shown(&mut follower).contains("texts"));
    follower
}

/// The frames since the last call.
fn shown(follower: &mut Follower) -> String {
    let (mut cx, mut all) = (TaskContext::from_waker(Waker::noop()), String::new());
    while let Poll::Ready(frames) = follower.poll_frames(&mut cx, false) {
        all.push_str(std::str::from_utf8(&frames.unwrap()).unwrap());
    }
    all
}

async fn say(node: &Arc<StateRegistry>, text: &str, counts: bool) -> Applied {
    let say = Say { text: text.to_owned(), counts };
    node.global::<Chat>().unwrap().send(say).await.unwrap().answer
}

#[tokio::test(start_paused = true)]
async fn elements_reach_followers_on_all_nodes() {
    let Nodes { registries: [a, b], ear, .. } = nodes();
    let mut followers = [follow(&a).await, follow(&b).await];
    let settle = async || {
        a.settle().await;
        b.settle().await;
    };
    // First without a stored record, then with one.
    for first in ["nothing to count", "nothing again"] {
        assert_eq!(say(&a, first, false).await, Applied::Unchanged);
        settle().await;
        for follower in &mut followers {
            let shown = shown(follower);
            assert_eq!(shown.matches(first).count(), 1, "{shown}");
        }
        assert_eq!(say(&b, "counted", true).await, Applied::Changed);
        settle().await;
        for follower in &mut followers {
            let shown = shown(follower);
            assert!(shown.contains("counted") && shown.contains("texts"), "{shown}");
        }
    }
    // The change is late, and the elements wait for it.
    ear.set(|_| BroadcastFault::Delay);
    say(&a, "late", true).await;
    settle().await;
    let late = shown(&mut followers[0]);
    assert!(late.contains("late"));
    assert_eq!(shown(&mut followers[1]), "");
    ear.release();
    settle().await;
    assert_eq!(shown(&mut followers[1]), late, "in one frame");
    // Changes without data, several of which are merged.
    ear.set(|_| BroadcastFault::Strip);
    for text in ["one", "two", "three"] {
        say(&a, text, true).await;
    }
    settle().await;
    let all = shown(&mut followers[1]);
    assert!(["one", "two", "three"].iter().all(|text| all.contains(text)), "{all}");
}

#[tokio::test(start_paused = true)]
async fn law_06_long_elements_are_sent_in_pieces_up_to_a_limit() {
    let Nodes { registries: [a, b], .. } = nodes();
    let mut follower = follow(&b).await;
    let long = "\"é\n".repeat(50_000);
    say(&a, &long, true).await;
    until("the elements arrive", async || shown(&mut follower).matches('é').count() == 50_000).await;
    let too_long = Say { text: "x".repeat(256 << 10), counts: true };
    let chat = a.global::<Chat>().unwrap();
    assert!(chat.send(too_long).await.is_err());
    assert_eq!(chat.read().await.unwrap().texts, 1, "law 7");
}

#[tokio::test(start_paused = true)]
async fn elements_of_a_save_of_unknown_outcome_reach_followers() {
    let Nodes { registries: [a, b], stores, .. } = nodes();
    let mut followers = [follow(&a).await, follow(&b).await];
    say(&a, "first", true).await;
    stores[0].next_saves([StoreFault::FailAfter]);
    assert_eq!(say(&a, "second", true).await, Applied::Changed);
    for follower in &mut followers {
        until("the elements arrive", async || shown(follower).contains("second")).await;
    }
}
