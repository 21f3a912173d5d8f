//! What lives for how long, and where.

use super::*;

#[tokio::test(start_paused = true)]
async fn law_13_a_dead_store_does_not_let_other_states_expire() {
    let dead = FaultyStore::new(Arc::new(MemoryStore::new()));
    let registry = StateRegistry::builder()
        .store(Arc::clone(&dead))
        .state::<Board>(StateConfig::global().access(Access::public()).ttl(Duration::from_secs(40)), |s| s)
        .state::<Note>(
            StateConfig::record().access(Access::public()).persist().ttl(Duration::from_secs(40)),
            |state| state.event::<Write>(),
        )
        .build()
        .unwrap();
    let board = board(&registry);
    add_one(&board).await.unwrap();
    let viewer = Viewer::application();
    let _board = registry.follow(&TopicName::signals("board"), &viewer, None, 0).await.unwrap();
    let mut notes = Vec::new();
    for n in 0..100_u64 {
        let name = format!("n{n}");
        let note = registry.record::<Note>(&name).unwrap();
        note.send(Write { text: name.clone() }).await.unwrap();
        let topic = TopicName::signals("note").of(name);
        notes.push(registry.follow(&topic, &viewer, None, n).await.unwrap());
    }
    dead.set(StoreFault::Hang);
    let version = board.read().await.unwrap().version();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(board.read().await.unwrap().version(), version, "it is followed, so it lives");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_kept_for_its_time_after_its_last_use_although_it_left_memory() {
    let ttl = Duration::from_secs(600);
    let registry = with(|builder| builder, |config| config.ttl(ttl));
    let board = board(&registry);
    add_one(&board).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    board.read().await.unwrap();
    sleep(Duration::from_secs(590)).await;
    assert_eq!(board.read().await.unwrap().count, 1);
}

#[tokio::test]
async fn law_06_a_state_finds_room_among_the_idle_instances_of_another() {
    let registry = StateRegistry::builder()
        .max_instances(3)
        .state::<Board>(StateConfig::global().access(Access::public()), |state| state)
        .state::<Note>(StateConfig::record().access(Access::public()), |state| state.event::<Write>())
        .build()
        .unwrap();
    for name in ["a", "b", "c"] {
        registry.record::<Note>(name).unwrap().read().await.unwrap();
    }
    add_one(&board(&registry)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_03_a_receipt_lives_ten_minutes_whatever_was_there_before() {
    let store = MemoryStore::new();
    let key = Key::new("board", faststate_core::Scope::Global, None, None).unwrap();
    let mut version = None;
    let mut save = async |name: &str| {
        let next = Version::start();
        let record = Record { schema: 1, version: next, data: "{}".into(), ttl: None };
        let expect = version.map_or(Precondition::Absent, Precondition::Version);
        let receipt = Receipt::new(&key, "add", &id(name));
        assert_eq!(
            store.save(&key, &record, expect, Some(&receipt)).await.unwrap(),
            SaveOutcome::Saved,
            "{name}"
        );
        version = Some(next);
    };
    for name in ["1", "2", "3", "4", "5", "again"] {
        save(name).await;
    }
    sleep(Duration::from_secs(601)).await;
    // More have ended than one save takes away.
    save("again").await;
    save("6").await;
    let receipt = Receipt::new(&key, "add", &id("again"));
    assert!(store.load(&key, Some(&receipt)).await.unwrap().receipt);
}

#[tokio::test(start_paused = true)]
async fn forever_is_a_hundred_years() {
    let registry = with(
        |builder| builder.deadline(Duration::MAX),
        |config| config.ttl(Duration::MAX).max_queued_events(0),
    );
    let board = board(&registry);
    let mut adding = Box::pin(add_one(&board));
    assert!(matches!(poll_once(&mut adding), Poll::Ready(Ok(Applied::Changed))));
    sleep(Duration::from_secs(60)).await;
}
