//! A timer: a component state, with one instance for each id that a page requests.
//!
//! The server stores only the start time and the time before it. Every browser computes the current value itself, so a
//! running timer costs nothing: no task, and not a byte on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use faststate::{Error, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};

/// Milliseconds, by the server's clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Timer {
    /// The start time since 1970; 0 while the timer is paused.
    started: u64,
    /// The time that it ran before that.
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
    // Only the ids of the home page exist, so that a client cannot create others.
    let access = Access::when(|_, key| key.id().is_some_and(|id| matches!(&*id, "tea" | "eggs")));
    builder.state::<Timer>(StateConfig::component().access(access).persist(), |state| {
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

/// Follows the viewer's timer with this id.
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

/// Milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_timer_continues_from_the_time_before() {
        assert_eq!(Timer { started: 0, before: 1_500 }.at(9_000), 1_500);
        assert_eq!(Timer { started: 8_000, before: 1_500 }.at(9_000), 2_500);
        assert_eq!(Timer { started: 8_000, before: 0 }.at(7_000), 0, "the clock was set back");
    }
}
