//! The state of one circuit breaker.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// How many failures in a row open the circuit.
const FAILURES: u32 = 3;
/// How many trial calls may be in flight while the circuit is half open.
const TRIALS: u32 = 3;
/// The first and the longest pause before a ping; each is up to half as long again, at random, so that
/// many nodes do not come back at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(800));

/// A circuit breaker: closed, open after [`FAILURES`], half open once a ping was answered, and closed again
/// once a trial call was answered.
pub(super) struct Circuit {
    /// The calls that it counts, for logs.
    pub(super) calls: &'static str,
    state: Mutex<State>,
    /// Whether the phase is not [`Phase::Closed`]. Relaxed: a reader may see the phase a moment late.
    resting: AtomicBool,
    /// Sends the generation of each half-open phase.
    returns: watch::Sender<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

struct State {
    phase: Phase,
    /// The number of the phase: the outcome of a call that began in another phase counts for nothing.
    generation: u64,
    /// In a row, while closed.
    failures: u32,
    /// In flight, while half open.
    trials: u32,
    /// The number of calls that were answered.
    answers: u64,
    /// The pause before the next ping. It grows until the circuit closes.
    pause: Duration,
}

/// The right to make one call.
pub(super) struct Admission {
    generation: u64,
    /// [`State::answers`] when the call began.
    answers: u64,
    is_trial: bool,
}

/// How a failure opened the circuit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It was closed.
    First,
    /// A trial call failed.
    Again,
}

impl Circuit {
    pub(super) fn new(calls: &'static str) -> Self {
        let state = State {
            phase: Phase::Closed,
            generation: 0,
            failures: 0,
            trials: 0,
            answers: 0,
            pause: PAUSES.0,
        };
        let (state, resting) = (Mutex::new(state), AtomicBool::new(false));
        Self { calls, state, resting, returns: watch::Sender::new(0) }
    }

    /// Admits a call, unless it has to fail at once.
    pub(super) fn admit(&self) -> Option<Admission> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed => {}
            Phase::HalfOpen if state.trials < TRIALS => state.trials += 1,
            Phase::HalfOpen | Phase::Open => return None,
        }
        Some(state.admission(state.phase == Phase::HalfOpen))
    }

    /// Admits a ping. It is no trial call, so it is admitted unless the circuit is open.
    pub(super) fn admit_ping(&self) -> Option<Admission> {
        let state = self.state.lock();
        (state.phase != Phase::Open).then(|| state.admission(false))
    }

    /// The store answered the call.
    pub(super) fn answered(&self, admission: &Admission) {
        let mut state = self.state.lock();
        state.answers += 1;
        if state.generation != admission.generation {
            return;
        }
        state.failures = 0;
        if state.phase == Phase::HalfOpen {
            state.enter(Phase::Closed);
            state.pause = PAUSES.0;
            self.resting.store(false, Ordering::Relaxed);
            tracing::info!(calls = self.calls, "a store answers again");
        }
    }

    /// The call failed. If that opened the circuit, the caller has to start to ping.
    ///
    /// A call that failed while the store answered others counts for nothing: it waited its turn in a
    /// queue, of the store or in front of it, and did not reach a dead store.
    pub(super) fn failed(&self, admission: &Admission) -> Option<Opened> {
        let mut state = self.state.lock();
        if state.generation != admission.generation || state.answers != admission.answers {
            state.end_trial(admission);
            return None;
        }
        let opened = match state.phase {
            Phase::Closed => Opened::First,
            Phase::HalfOpen => Opened::Again,
            Phase::Open => return None,
        };
        state.failures += 1;
        if opened == Opened::First && state.failures < FAILURES {
            return None;
        }
        state.enter(Phase::Open);
        self.resting.store(true, Ordering::Relaxed);
        Some(opened)
    }

    /// The caller dropped the call too early to learn anything from it.
    pub(super) fn dropped(&self, admission: &Admission) {
        self.state.lock().end_trial(admission);
    }

    /// The pause before the next ping; the one after it is twice as long.
    pub(super) fn next_pause(&self) -> Duration {
        let mut state = self.state.lock();
        let pause = state.pause;
        state.pause = (pause * 2).min(PAUSES.1);
        pause.mul_f64(1.0 + rand::random::<f64>() / 2.0)
    }

    /// A ping was answered: the next few calls are trial calls.
    pub(super) fn half_open(&self) {
        let mut state = self.state.lock();
        state.enter(Phase::HalfOpen);
        let generation = state.generation;
        drop(state);
        self.returns.send_replace(generation);
    }

    /// Whether the circuit is not closed.
    pub(super) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Whether every call fails at once.
    pub(super) fn is_open(&self) -> bool {
        self.is_resting() && self.state.lock().phase == Phase::Open
    }

    /// Changes whenever the circuit becomes half open.
    pub(super) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }
}

impl State {
    const fn admission(&self, is_trial: bool) -> Admission {
        Admission { generation: self.generation, answers: self.answers, is_trial }
    }

    const fn enter(&mut self, phase: Phase) {
        (self.phase, self.failures, self.trials) = (phase, 0, 0);
        self.generation += 1;
    }

    const fn end_trial(&mut self, admission: &Admission) {
        if admission.is_trial && self.generation == admission.generation {
            self.trials -= 1;
        }
    }
}
