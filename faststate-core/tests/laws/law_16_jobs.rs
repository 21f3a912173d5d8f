//! Law 16: the outcomes of jobs that fail. None of them stops other jobs.

use std::{sync::Arc, time::Duration};

use faststate_core::{
    Access, Handle, MemoryStore, Registry as _, StateConfig, StateRegistry, internal::follow_tokio_time,
    registry::MessageAction,
};
use tokio::time::sleep;

use crate::office::{
    Chores, Office, Request, Trouble, office_registry, offices_with, only_unfinished, unfinished,
};

fn office(registry: &Arc<StateRegistry>) -> Handle<Office> {
    registry.record("office").unwrap()
}

#[tokio::test(start_paused = true)]
async fn law_16_job_that_fails_is_retried_or_parked_and_stops_no_other() {
    for (trouble, parked_for, attempts) in [
        (Trouble::Panic, None, 2),
        (Trouble::Hang, None, 2),
        (Trouble::Undecodable, Some("the input of the job does not decode: not a chore"), 0),
    ] {
        follow_tokio_time();
        let (store, chores) = (Arc::new(MemoryStore::new()), Chores::default());
        let registry = office_registry(&store, &chores);
        office(&registry).send(Request { job: trouble }).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        office(&registry).send(Request { job: Trouble::None }).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(chores.counts().1, 1, "{trouble:?}: the other job ran");
        sleep(Duration::from_secs(60)).await;
        let expected = parked_for.map(str::to_owned).into_iter().collect::<Vec<_>>();
        assert_eq!(unfinished(&registry).await, (expected, 0), "{trouble:?}");
        let succeeded = 1 + usize::from(parked_for.is_none());
        assert_eq!(chores.counts(), (attempts + 1, succeeded), "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_16_job_whose_input_panics_is_retried_and_stops_no_other() {
    follow_tokio_time();
    let (store, chores) = (Arc::new(MemoryStore::new()), Chores::default());
    let registry = office_registry(&store, &chores);
    office(&registry).send(Request { job: Trouble::PanicInInput }).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    office(&registry).send(Request { job: Trouble::None }).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(chores.counts(), (1, 1));
    assert!(only_unfinished(&registry).await.attempts >= 3);
}

#[tokio::test(start_paused = true)]
async fn law_16_job_that_a_deployment_removed_is_parked_and_retried() {
    follow_tokio_time();
    let (store, chores) = (Arc::new(MemoryStore::new()), Chores::default());
    let registry = office_registry(&store, &chores);
    office(&registry).send(Request { job: Trouble::None }).await.unwrap();
    drop(registry);
    let config = StateConfig::record().access(Access::public()).persist();
    let newer = offices_with(StateRegistry::builder().store(Arc::clone(&store)), &chores, config);
    let newer = newer.build().unwrap();
    sleep(Duration::from_secs(40)).await;
    let (parked, _) = unfinished(&newer).await;
    assert!(parked[0].contains("no job is named `chore`"), "{parked:?}");
    drop(newer);
    let registry = office_registry(&store, &chores);
    let message = only_unfinished(&registry).await;
    registry.resolve_message(&message, MessageAction::Retry).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(chores.counts(), (1, 1));
    assert_eq!(unfinished(&registry).await, (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn law_16_job_is_not_run_by_two_nodes_while_it_takes_long() {
    follow_tokio_time();
    let (store, chores) = (Arc::new(MemoryStore::new()), Chores::default());
    let nodes = [office_registry(&store, &chores), office_registry(&store, &chores)];
    // The first attempt hangs for 20 s.
    office(&nodes[0]).send(Request { job: Trouble::Hang }).await.unwrap();
    sleep(Duration::from_secs(19)).await;
    assert_eq!(chores.counts(), (1, 0));
    nodes[0].settle().await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(chores.counts(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn law_16_node_that_leaves_finishes_its_running_job() {
    follow_tokio_time();
    let (store, chores) = (Arc::new(MemoryStore::new()), Chores::default());
    let nodes = [office_registry(&store, &chores), office_registry(&store, &chores)];
    // The first attempt hangs for 20 s.
    office(&nodes[0]).send(Request { job: Trouble::Hang }).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    nodes[0].leave().await;
    sleep(Duration::from_secs(18)).await;
    assert_eq!(chores.counts(), (1, 0), "no other node runs it at the same time");
    // Another node runs the next attempt.
    nodes[0].settle().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(chores.counts(), (2, 1));
}
