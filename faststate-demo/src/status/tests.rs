use super::*;

#[test]
fn rates_are_rounded_to_whole_events() {
    assert_eq!(per_second(3, Duration::from_millis(1000)), 3);
    assert_eq!(per_second(3, Duration::from_millis(1100)), 3);
    assert_eq!(per_second(3, Duration::from_millis(2000)), 2);
    assert_eq!(per_second(0, Duration::ZERO), 0);
}

#[test]
fn silent_node_is_removed_and_history_is_bounded() {
    let mut status = Status::default();
    let at = |at| NodeFigures { at, ..NodeFigures::default() };
    status.take("b", at(0), 1);
    (1..=100).for_each(|second| status.take("a", at(second * 1000), second));
    assert_eq!(status.nodes.keys().collect::<Vec<_>>(), ["a"]);
    let figures = &status.nodes["a"];
    assert_eq!((figures.events.len(), figures.rate()), (HISTORY, 100));
    let bars = figures.bars();
    assert_eq!((bars[0].0, bars[59]), (0, (295, 2, 38)));
}

#[tokio::test(start_paused = true)]
async fn law_14_figures_are_collected_only_while_followed() -> Result<(), faststate::BoxError> {
    let (watched, watching) = watch::channel(0);
    let registry = register(StateRegistry::builder(), watched.clone()).build()?;
    let status = registry.global::<Status>()?;
    tokio::spawn(keep("a".into(), status.clone(), Endpoint::new(registry), watching));
    let taken = async |seconds| {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        status.read().await.map(|status| status.nodes.get("a").map_or(0, |node| node.events.len()))
    };
    assert_eq!(taken(20).await?, 0);
    watched.send_replace(2);
    let first = taken(5).await?;
    assert!((5..=6).contains(&first), "{first}");
    watched.send_replace(0);
    let last = taken(2).await?;
    assert!(last <= first + 1);
    assert_eq!(taken(20).await?, last, "no followers");
    watched.send_replace(1);
    assert!(taken(3).await? > last);
    Ok(())
}
