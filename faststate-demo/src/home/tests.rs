use faststate::{BoxError, SessionId};

use super::*;

fn playground() -> Result<Handle<Playground>, BoxError> {
    let registry = StateRegistry::builder()
        .state::<Playground>(StateConfig::session(), |state| {
            state.event::<StartTicking>().event::<CancelTicking>()
        })
        .build()?;
    Ok(Handle::of(registry, &Viewer::session(SessionId::random()), None)?)
}

async fn ticks_after(playground: &Handle<Playground>, ticks: u32) -> Result<u8, BoxError> {
    time::sleep(TICK * ticks + TICK / 2).await;
    Ok(playground.read().await?.ticks)
}

#[tokio::test(start_paused = true)]
async fn ticker_runs_to_its_end_and_only_once() -> Result<(), BoxError> {
    let playground = playground()?;
    playground.send(StartTicking {}).await?;
    assert_eq!(ticks_after(&playground, 3).await?, 4);
    assert!(playground.send(StartTicking {}).await.is_err(), "it is ticking already");
    assert_eq!(ticks_after(&playground, 20).await?, TICKS);
    playground.send(StartTicking {}).await?;
    assert_eq!(ticks_after(&playground, 1).await?, 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_the_ticker_but_not_its_successor() -> Result<(), BoxError> {
    let playground = playground()?;
    playground.send(StartTicking {}).await?;
    assert_eq!(ticks_after(&playground, 3).await?, 4);
    playground.send(CancelTicking {}).await?;
    playground.send(StartTicking {}).await?;
    let mut seen = Vec::new();
    for _ in 0..20 {
        time::sleep(TICK / 8).await;
        seen.push(playground.read().await?.ticks);
    }
    assert!(seen.is_sorted() && seen.last() == Some(&3), "the first ticker is still running: {seen:?}");
    playground.send(CancelTicking {}).await?;
    assert_eq!(ticks_after(&playground, 4).await?, 0);
    Ok(())
}
