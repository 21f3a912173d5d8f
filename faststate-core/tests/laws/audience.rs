//! A state that is told who follows it.

use faststate_core::{
    Access, Context, Event, ReactiveState, Registry as _, Rejection, StateConfig, StateRegistry, Viewer,
    registry::TopicName,
};
use serde::{Deserialize, Serialize};

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

#[tokio::test]
async fn a_state_is_told_who_follows_it() {
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
        registry.follow(&topic, &viewer, None, stream).await.unwrap()
    };
    let room = registry.record::<Room>("a").unwrap();
    let told = async |text: &str| until(text, async || room.read().await.unwrap().here == text).await;
    let _guest = follow(None, 1).await;
    let bob = follow(Some("bob"), 2).await;
    let (_ann, _again) = (follow(Some("ann"), 3).await, follow(Some("ann"), 4).await);
    told("ann bob +1").await;
    drop(bob);
    told("ann +1").await;
    // As many as before, and others.
    let _eve = follow(Some("eve"), 5).await;
    told("ann eve +1").await;
}
