//! The state of one circuit breaker.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The number of failures in a row that open the circuit.
const MAX_FAILURES: u32 = 3;
/// The maximum number of trial calls in flight while the circuit is half open.
const MAX_TRIALS: u32 = 3;
/// The first pause before a ping. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a ping, without jitter.
const MAX_PAUSE: Duration = Duration::from_millis(800);
/// The maximum jitter of a pause, as a part of it. It keeps many nodes from calling the store again at once.
const PAUSE_JITTER: f64 = 0.5;

/// The circuit of one kind of calls: closed at first, open after [`MAX_FAILURES`], half open once a ping was answered,
/// and closed again once a trial call was answered.
pub(super) struct Circuit {
    /// The kind of calls, for logs.
    pub(super) calls: &'static str,
    state: Mutex<CircuitState>,
    /// Whether the phase is not [`Phase::Closed`].
    ///
    /// Relaxed: a reader may see a change of the phase late.
    resting: AtomicBool,
    /// Contains the generation of the last half-open phase.
    returns: watch::Sender<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

struct CircuitState {
    phase: Phase,
    /// The number of the phase. The outcome of a call that began in another phase counts for nothing.
    generation: u64,
    /// The number of failures in a row while the circuit is closed.
    failures: u32,
    /// The number of trial calls in flight while the circuit is half open.
    trials: u32,
    /// The number of answered calls.
    answers: u64,
    /// The pause before the next ping, without jitter. It grows until the circuit closes.
    pause: Duration,
}

/// The right to make one call.
pub(super) struct CallPermit {
    generation: u64,
    /// The value of [`CircuitState::answers`] when the call began.
    answers: u64,
    is_trial: bool,
}

/// The phase from which a failure opened the circuit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// The circuit was closed.
    First,
    /// The circuit was half open, and a trial call failed.
    Again,
}

impl Circuit {
    pub(super) fn new(calls: &'static str) -> Self {
        let state = CircuitState {
            phase: Phase::Closed,
            generation: 0,
            failures: 0,
            trials: 0,
            answers: 0,
            pause: FIRST_PAUSE,
        };
        let (state, resting) = (Mutex::new(state), AtomicBool::new(false));
        Self { calls, state, resting, returns: watch::Sender::new(0) }
    }

    /// Admits a call. Returns `None` if the call must fail at once.
    pub(super) fn admit(&self) -> Option<CallPermit> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed => {}
            Phase::HalfOpen if state.trials < MAX_TRIALS => state.trials += 1,
            Phase::HalfOpen | Phase::Open => return None,
        }
        Some(state.permit(state.phase == Phase::HalfOpen))
    }

    /// Admits a ping unless the circuit is open. A ping does not count as a trial call.
    pub(super) fn admit_ping(&self) -> Option<CallPermit> {
        let state = self.state.lock();
        (state.phase != Phase::Open).then(|| state.permit(false))
    }

    /// Records that the store answered the call.
    pub(super) fn answered(&self, permit: &CallPermit) {
        let mut state = self.state.lock();
        state.answers += 1;
        if state.generation != permit.generation {
            return;
        }
        state.failures = 0;
        if state.phase == Phase::HalfOpen {
            state.enter(Phase::Closed);
            state.pause = FIRST_PAUSE;
            self.resting.store(false, Ordering::Relaxed);
            tracing::info!(calls = self.calls, "a store answers again");
        }
    }

    /// Records that the call failed. If this opened the circuit, the caller must begin to ping the store.
    ///
    /// A call that failed while the store answered other calls counts for nothing: it waited in a queue of the store or
    /// in front of it, so its failure does not show that the store is down.
    pub(super) fn failed(&self, permit: &CallPermit) -> Option<Opened> {
        let mut state = self.state.lock();
        if state.generation != permit.generation || state.answers != permit.answers {
            state.end_trial(permit);
            return None;
        }
        let opened = match state.phase {
            Phase::Closed => Opened::First,
            Phase::HalfOpen => Opened::Again,
            Phase::Open => return None,
        };
        state.failures += 1;
        if opened == Opened::First && state.failures < MAX_FAILURES {
            return None;
        }
        state.enter(Phase::Open);
        self.resting.store(true, Ordering::Relaxed);
        Some(opened)
    }

    /// Records that the caller dropped the call too early for a conclusion about the store.
    pub(super) fn dropped(&self, permit: &CallPermit) {
        self.state.lock().end_trial(permit);
    }

    /// Returns the pause before the next ping, with jitter, and doubles it for the ping after that.
    pub(super) fn next_pause(&self) -> Duration {
        let mut state = self.state.lock();
        let pause = state.pause;
        state.pause = (pause * 2).min(MAX_PAUSE);
        pause.mul_f64(1.0 + rand::random::<f64>() * PAUSE_JITTER)
    }

    /// Half-opens the circuit after an answered ping: the next few calls are trial calls.
    pub(super) fn half_open(&self) {
        let mut state = self.state.lock();
        state.enter(Phase::HalfOpen);
        let generation = state.generation;
        drop(state);
        self.returns.send_replace(generation);
    }

    /// Returns whether the circuit is open or half open.
    pub(super) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Returns whether the circuit is open: every call fails at once.
    pub(super) fn is_open(&self) -> bool {
        self.is_resting() && self.state.lock().phase == Phase::Open
    }

    /// Changes whenever the circuit becomes half open.
    pub(super) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }
}

impl CircuitState {
    const fn permit(&self, is_trial: bool) -> CallPermit {
        CallPermit { generation: self.generation, answers: self.answers, is_trial }
    }

    const fn enter(&mut self, phase: Phase) {
        (self.phase, self.failures, self.trials) = (phase, 0, 0);
        self.generation += 1;
    }

    const fn end_trial(&mut self, permit: &CallPermit) {
        if permit.is_trial && self.generation == permit.generation {
            self.trials -= 1;
        }
    }
}
