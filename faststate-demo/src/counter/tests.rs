use faststate::{BoxError, Error};

use super::*;

fn counter() -> Result<Handle<Counter>, BoxError> {
    let registry = StateRegistry::builder()
        .state::<Counter>(StateConfig::global().access(Access::public()), |state| state.event::<Increment>())
        .build()?;
    Ok(Handle::of(registry, &Viewer::application(), None)?)
}

fn fields(refused: Result<impl Sized, Error>) -> Vec<String> {
    let Err(Error::Rejected(rejection)) = refused else { return Vec::new() };
    rejection.fields().map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn each_mistake_names_its_field() -> Result<(), BoxError> {
    let counter = counter()?;
    for amount in [0, -1, 1001] {
        let refused = counter.send(Increment { amount, user: "x".repeat(41) }).await;
        assert_eq!(fields(refused), ["amount", "user"]);
    }
    assert_eq!(counter.read().await?.update_count, 0);
    Ok(())
}

#[test]
fn chart_shows_only_past_counts() {
    let mut counter = Counter::default();
    assert!(Chart.render(&counter).html().contains("id=\"chart\""));
    for count in [i64::MAX, i64::MIN, 0] {
        counter.count = count;
        counter.updated_by("Ada");
    }
    let chart = Chart.render(&counter).html().to_owned();
    assert!(chart.contains("6.0,40.0 102.0,6.0 198.0,74.0 294.0,40.0"), "{chart}");
    (0..200).for_each(|_| counter.updated_by("Ada"));
    assert_eq!(counter.history.len(), HISTORY);
}

#[tokio::test]
async fn count_does_not_overflow() -> Result<(), BoxError> {
    let counter = counter()?;
    counter
        .update(|counter| {
            counter.count = i64::MAX - 1;
            Ok(())
        })
        .await?;
    counter.send(Increment { amount: 1, user: " \u{200b}\u{3164}".into() }).await?;
    assert_eq!(fields(counter.send(Increment { amount: 1, user: String::new() }).await), ["amount"]);
    let now = counter.read().await?;
    let chart = Chart.render(&now).html().to_owned();
    assert!(!chart.contains("NaN") && chart.contains("294.0,6.0"), "{chart}");
    assert_eq!((now.count, &*now.last_updated_by, now.update_count), (i64::MAX, ANONYMOUS, 1));
    Ok(())
}
