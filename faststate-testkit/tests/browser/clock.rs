//! Paused time applies to the dates of events, receipts and times to live.

use std::time::{Duration, SystemTime};

use faststate_core::{
    Access, Context, Event, EventId, ReactiveState, Rejection, StateConfig, StateRegistry, Viewer,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Visits {
    count: u32,
    last: SystemTime,
}

impl Default for Visits {
    fn default() -> Self {
        Self { count: 0, last: SystemTime::UNIX_EPOCH }
    }
}

impl ReactiveState for Visits {
    const NAME: &'static str = "visits";
}

#[derive(Serialize, Deserialize)]
struct Visit {}

impl Event for Visit {
    type State = Visits;
    const NAME: &'static str = "visit";

    fn apply(&self, visits: &mut Visits, context: &mut Context<Visits>) -> Result<(), Rejection> {
        visits.count += 1;
        visits.last = context.now();
        Ok(())
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn paused_time_moves_dates_receipts_and_lifetimes() {
    faststate_testkit::follow_tokio_time();
    let config = StateConfig::global().access(Access::public()).ttl(30 * MINUTE);
    let registry = StateRegistry::builder().state::<Visits>(config, |state| state.event::<Visit>());
    let registry = registry.build().unwrap();
    let visits = registry.global::<Visits>().unwrap();
    let visit = async |id: &EventId| {
        visits.send_as(Visit {}, Viewer::application(), id.clone()).await.unwrap();
        let now = visits.read().await.unwrap();
        (now.count, now.last)
    };

    let id = EventId::random();
    let (_, first) = visit(&id).await;
    let real = SystemTime::now();
    let apart = real.duration_since(first).unwrap_or_else(|error| error.duration());
    assert!(apart < MINUTE, "it starts at the current time, but is {apart:?} apart");
    assert_eq!(visit(&id).await, (1, first), "a repeat");

    // A receipt is kept for 10 minutes, and the date has advanced by 11 minutes.
    tokio::time::advance(11 * MINUTE).await;
    assert_eq!(visit(&id).await, (2, first + 11 * MINUTE));

    // The record expires 30 minutes after its last change.
    tokio::time::advance(29 * MINUTE).await;
    assert_eq!(visits.read().await.unwrap().count, 2);
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(visit(&EventId::random()).await, (1, first + 42 * MINUTE));
}
