//! Audience events: a state learns which users follow it.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, Context, Event, LocalBroadcaster, MemoryStore, ReactiveState, Registry as _, Rejection,
    StateConfig, StateRegistry, Viewer,
    internal::{Follower, TopicName},
};
use faststate_testkit::faults::{FaultyStore, StoreFault};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::board::until;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Room {
    here: String,
}

impl ReactiveState for Room {
    const NAME: &'static str = "room";
}

#[derive(Serialize, Deserialize)]
struct Here {
    here: String,
}

impl Event for Here {
    type State = Room;
    const NAME: &'static str = "here";

    fn apply(&self, room: &mut Room, _: &mut Context<Room>) -> Result<(), Rejection> {
        room.here.clone_from(&self.here);
        Ok(())
    }
}

type Nodes = [Arc<StateRegistry>; 3];

fn nodes() -> (Nodes, Arc<FaultyStore>) {
    let (store, hub) = (FaultyStore::new(Arc::new(MemoryStore::new())), LocalBroadcaster::new());
    let nodes = [hub.peer(), hub.peer(), hub].map(|broadcaster| {
        let config = StateConfig::record().access(Access::public()).persist();
        StateRegistry::builder()
            .store(Arc::clone(&store))
            .broadcaster(broadcaster)
            .state::<Room>(config, |state| {
                let state = state.initial(|_| async { Some(Room::default()) });
                state.audience(|audience| Here {
                    here: format!("{} +{}", audience.users.join(" "), audience.guests),
                })
            })
            .build()
            .unwrap()
    });
    (nodes, store)
}

async fn follow(node: &StateRegistry, user: Option<&str>) -> Follower {
    let viewer = user.map_or_else(Viewer::application, |user| Viewer::application().with_user(user));
    node.engine().follow(&TopicName::signals("room").of("a"), &viewer, None, rand::random()).await.unwrap()
}

async fn becomes(node: &Arc<StateRegistry>, text: &str) {
    let room = node.record::<Room>("a").unwrap();
    until(text, async || room.read().await.is_ok_and(|room| room.here == text)).await;
}

#[tokio::test(start_paused = true)]
async fn audience_covers_all_nodes() {
    let (nodes, _) = nodes();
    let (ann, bob) = (follow(&nodes[0], Some("ann")).await, follow(&nodes[1], Some("bob")).await);
    let (_guest, _again) = (follow(&nodes[2], None).await, follow(&nodes[2], Some("ann")).await);
    becomes(&nodes[0], "ann bob +1").await;
    // Once the followers stop changing, the audience is right and nothing is saved any more.
    sleep(Duration::from_secs(5)).await;
    let room = nodes[1].record::<Room>("a").unwrap();
    let quiet = room.read().await.unwrap();
    assert_eq!(quiet.here, "ann bob +1");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(room.read().await.unwrap().version(), quiet.version());
    drop(bob);
    becomes(&nodes[1], "ann +1").await;
    drop(ann);
    sleep(Duration::from_secs(5)).await;
    becomes(&nodes[0], "ann +1").await;
    // More users than fit into one message.
    let mut crowd = Vec::new();
    for user in 0..300 {
        crowd.push(follow(&nodes[user % 2], Some(&format!("user with a long name {user:03}"))).await);
    }
    let names: Vec<_> = (0..300).map(|user| format!("user with a long name {user:03}")).collect();
    becomes(&nodes[2], &format!("ann {} +1", names.join(" "))).await;
    crowd.clear();
    becomes(&nodes[2], "ann +1").await;
}

#[tokio::test(start_paused = true)]
async fn law_13_audience_is_sent_again_after_a_store_failure() {
    let (nodes, store) = nodes();
    let ann = follow(&nodes[0], Some("ann")).await;
    becomes(&nodes[0], "ann +0").await;
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        let _bob = follow(&nodes[0], Some("bob")).await;
        store.set(fault);
        sleep(Duration::from_secs(30)).await;
        store.set(StoreFault::None);
        becomes(&nodes[0], "ann bob +0").await;
        drop(_bob);
        becomes(&nodes[0], "ann +0").await;
    }
    // Also when the last follower has left.
    store.set(StoreFault::Fail);
    drop(ann);
    sleep(Duration::from_secs(20)).await;
    store.set(StoreFault::None);
    becomes(&nodes[0], " +0").await;
}

#[tokio::test]
async fn state_receives_its_audience() {
    let registry = StateRegistry::builder()
        .state::<Room>(StateConfig::record().access(Access::public()), |state| {
            state.audience(|audience| Here {
                here: format!("{} +{}", audience.users.join(" "), audience.guests),
            })
        })
        .build()
        .unwrap();
    let topic = TopicName::signals("room").of("a");
    let follow = async |user: Option<&str>, stream| {
        let viewer = user.map_or_else(Viewer::application, |user| Viewer::application().with_user(user));
        registry.engine().follow(&topic, &viewer, None, stream).await.unwrap()
    };
    let room = registry.record::<Room>("a").unwrap();
    let becomes = async |text: &str| until(text, async || room.read().await.unwrap().here == text).await;
    let _guest = follow(None, 1).await;
    let bob = follow(Some("bob"), 2).await;
    let (_ann, _again) = (follow(Some("ann"), 3).await, follow(Some("ann"), 4).await);
    becomes("ann bob +1").await;
    drop(bob);
    becomes("ann +1").await;
    // The same number of users, but different ones.
    let _eve = follow(Some("eve"), 5).await;
    becomes("ann eve +1").await;
}
