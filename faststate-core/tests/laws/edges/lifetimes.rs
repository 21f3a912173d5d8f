//! Lifetimes of records, instances and receipts.

use super::*;

#[tokio::test(start_paused = true)]
async fn law_13_dead_store_does_not_let_other_states_expire() {
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
    let _board = registry.engine().follow(&TopicName::signals("board"), &viewer, None, 0).await.unwrap();
    let mut notes = Vec::new();
    for n in 0..100_u64 {
        let name = format!("n{n}");
        let note = registry.record::<Note>(&name).unwrap();
        note.send(Write { text: name.clone() }).await.unwrap();
        let topic = TopicName::signals("note").of(name);
        notes.push(registry.engine().follow(&topic, &viewer, None, n).await.unwrap());
    }
    dead.set(StoreFault::Hang);
    let version = board.read().await.unwrap().version();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(board.read().await.unwrap().version(), version, "a followed record does not expire");
}

#[tokio::test(start_paused = true)]
async fn evicted_record_is_kept_for_its_ttl_after_its_last_use() {
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
async fn law_06_state_takes_the_room_of_idle_instances_of_another() {
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
async fn law_03_receipt_lives_ten_minutes_among_earlier_ones() {
    let store = MemoryStore::new();
    let key = Key::new("board", faststate_core::Scope::Global, None, None).unwrap();
    let mut version = None;
    let mut save = async |name: &str| {
        let next = Version::start();
        let record = Record::new(1, next, "{}", None);
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
    // More receipts have expired than one save removes.
    save("again").await;
    save("6").await;
    let receipt = Receipt::new(&key, "add", &id("again"));
    assert!(store.load(&key, Some(&receipt)).await.unwrap().receipt.is_some());
}

#[tokio::test(start_paused = true)]
async fn longest_ttl_is_a_hundred_years() {
    let registry = with(
        |builder| builder.deadline(Duration::MAX),
        |config| config.ttl(Duration::MAX).max_queued_events(0),
    );
    let board = board(&registry);
    let mut adding = Box::pin(add_one(&board));
    assert!(matches!(poll_once(&mut adding), Poll::Ready(Ok(Applied::Changed))));
    sleep(Duration::from_secs(60)).await;
}
