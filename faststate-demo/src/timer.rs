//! A timer: a component, of which each session has as many as a page asks for by id.
//!
//! The server keeps when it was started and what it had run before. What that comes to by now every browser
//! knows by itself, so a timer that runs costs nothing: no task, and not a byte on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use faststate::{Error, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};

/// Milliseconds, by the server's clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timer {
    /// When it was started, since 1970; 0 while it stands still.
    started: u64,
    /// What it had run before that.
    before: u64,
}

impl ReactiveState for Timer {
    const NAME: &'static str = "timer";
}

impl Timer {
    fn at(&self, now: u64) -> u64 {
        let runs = if self.started == 0 { 0 } else { now.saturating_sub(self.started) };
        self.before + runs
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    // Whoever asks for others by hand finds none.
    let ours = Access::when(|_, key| key.id().is_some_and(|id| matches!(&*id, "tea" | "eggs")));
    builder.state::<Timer>(StateConfig::component().access(ours).persist(), |state| {
        state.event::<StartTimer>().event::<PauseTimer>().event::<ClearTimer>()
    })
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartTimer {}

impl Event for StartTimer {
    type State = Timer;
    const NAME: &'static str = "start";

    fn apply(&self, timer: &mut Timer, context: &mut Context<Timer>) -> Result<(), Rejection> {
        if timer.started == 0 {
            timer.started = milliseconds(context.now());
        }
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PauseTimer {}

impl Event for PauseTimer {
    type State = Timer;
    const NAME: &'static str = "pause";

    fn apply(&self, timer: &mut Timer, context: &mut Context<Timer>) -> Result<(), Rejection> {
        *timer = Timer { started: 0, before: timer.at(milliseconds(context.now())) };
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClearTimer {}

impl Event for ClearTimer {
    type State = Timer;
    const NAME: &'static str = "clear";

    fn apply(&self, timer: &mut Timer, _: &mut Context<Timer>) -> Result<(), Rejection> {
        *timer = Timer::default();
        Ok(())
    }
}

/// A timer on a page.
#[derive(Debug)]
pub(crate) struct TimerCard {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    seconds: u64,
    pub(crate) runs: bool,
}

/// The viewer's timer of this id, which the page follows from now on.
pub(crate) async fn follow(page: &Page, id: &'static str, title: &'static str) -> Result<TimerCard, Error> {
    let timer = page.follow_id::<Timer>(id).await?;
    let seconds = timer.at(milliseconds(SystemTime::now())) / 1000;
    Ok(TimerCard { id, title, seconds, runs: timer.started > 0 })
}

impl TimerCard {
    pub(crate) fn clock(&self) -> String {
        format!("{:02}:{:02}", self.seconds / 60, self.seconds % 60)
    }

    pub(crate) fn start(&self) -> Action {
        StartTimer {}.action().on(self.id)
    }

    pub(crate) fn pause(&self) -> Action {
        PauseTimer {}.action().on(self.id)
    }

    pub(crate) fn clear(&self) -> Action {
        ClearTimer {}.action().on(self.id)
    }
}

/// Since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_runs_goes_on_from_what_it_had() {
        assert_eq!(Timer { started: 0, before: 1_500 }.at(9_000), 1_500);
        assert_eq!(Timer { started: 8_000, before: 1_500 }.at(9_000), 2_500);
        assert_eq!(Timer { started: 8_000, before: 0 }.at(7_000), 0, "the clock was set back");
    }
}
