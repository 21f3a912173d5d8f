//! The concurrency limit of the reloads of one store.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Maximum number of concurrent reloads of one store.
const MAX_LIMIT: usize = 64;
/// Number of concurrent reloads before the first measurement.
const INITIAL_LIMIT: usize = 4;
/// Bounds for the estimated number of this node's reloads that are queued in the store. The limit grows below the first
/// bound and shrinks above the second.
const QUEUED_RANGE: (f64, f64) = (2.0, 4.0);

/// Limits the concurrent reloads of one store, so that they use its capacity but leave its queue short for events.
///
/// The limit follows the latency, like TCP Vegas: when `limit` concurrent loads take `took` each and the fastest took
/// `fastest`, about `limit * (1 - fastest / took)` of them are queued. Nodes thereby share a store without coordination,
/// and reloads do not saturate a degraded store. A failed load also lowers the limit.
pub(in crate::registry) struct ReloadLimit {
    slots: Arc<Semaphore>,
    state: Mutex<LimitState>,
}

/// The limit and the measurements that it follows.
struct LimitState {
    limit: usize,
    /// The duration of the shortest load since a load was last the only one in flight.
    fastest: Duration,
    /// When the limit last changed. Loads that began before are not measurements of the new limit.
    changed: Option<Instant>,
}

/// Admits one reload, and reports its end.
pub(in crate::registry) struct ReloadPermit {
    limit: Arc<ReloadLimit>,
    permit: OwnedSemaphorePermit,
    began: Instant,
}

impl ReloadLimit {
    pub(in crate::registry) fn new() -> Arc<Self> {
        let state = LimitState { limit: INITIAL_LIMIT, fastest: Duration::MAX, changed: None };
        Arc::new(Self { slots: Arc::new(Semaphore::new(INITIAL_LIMIT)), state: Mutex::new(state) })
    }

    /// Waits for a free permit. Returns `None` only if the semaphore is closed, which never happens.
    pub(in crate::registry) async fn permit(self: &Arc<Self>) -> Option<ReloadPermit> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let mut state = self.state.lock();
        if self.slots.available_permits() + 1 >= state.limit {
            state.fastest = Duration::MAX;
        }
        drop(state);
        Some(ReloadPermit { limit: Arc::clone(self), permit, began: Instant::now() })
    }
}

impl ReloadPermit {
    /// Ends a load that the store answered, and adjusts the limit to its latency.
    pub(in crate::registry) fn answered(self) {
        let Self { limit, permit, began } = self;
        let took = began.elapsed();
        let mut state = limit.state.lock();
        state.fastest = state.fastest.min(took);
        if state.changed.is_some_and(|changed| changed > began) {
            return;
        }
        let share = if took.is_zero() { 0.0 } else { 1.0 - state.fastest.div_duration_f64(took) };
        let waiting = f64::from(u32::try_from(state.limit).unwrap_or(u32::MAX)) * share;
        // The limit grows only if it was reached.
        if waiting < QUEUED_RANGE.0 && state.limit < MAX_LIMIT && limit.slots.available_permits() == 0 {
            let grown = state.limit + 1;
            state.change(grown);
            limit.slots.add_permits(1);
        } else if waiting > QUEUED_RANGE.1 {
            state.shrink(permit);
        }
    }

    /// Ends a load that failed, and lowers the limit.
    pub(in crate::registry) fn failed(self) {
        let Self { limit, permit, .. } = self;
        limit.state.lock().shrink(permit);
    }
}

impl LimitState {
    fn change(&mut self, limit: usize) {
        (self.limit, self.changed) = (limit, Some(Instant::now()));
    }

    fn shrink(&mut self, permit: OwnedSemaphorePermit) {
        if self.limit > 1 {
            self.change(self.limit - 1);
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::sleep_until;

    use super::*;

    /// Runs `loads` loads on each of `nodes` nodes, from a store that serves `servers` calls at a time in `each`.
    /// Returns the total duration and the maximum number of concurrent loads.
    async fn run(nodes: usize, loads: usize, servers: usize, each: Duration) -> (Duration, usize) {
        let free = Arc::new(Mutex::new(vec![Instant::now(); servers]));
        let in_flight = Arc::new(Mutex::new((0_usize, 0_usize)));
        let began = Instant::now();
        let node = async |limit: Arc<ReloadLimit>| {
            let mut tasks = Vec::new();
            for _ in 0..loads {
                let permit = limit.permit().await.unwrap();
                let (free, in_flight) = (Arc::clone(&free), Arc::clone(&in_flight));
                tasks.push(tokio::spawn(async move {
                    let end = {
                        let mut free = free.lock();
                        let server = free.iter_mut().min().unwrap();
                        *server = (*server).max(Instant::now()) + each;
                        *server
                    };
                    {
                        let mut count = in_flight.lock();
                        count.0 += 1;
                        count.1 = count.1.max(count.0);
                    }
                    sleep_until(end).await;
                    in_flight.lock().0 -= 1;
                    permit.answered();
                }));
            }
            join_all(tasks).await;
        };
        join_all((0..nodes).map(|_| node(ReloadLimit::new()))).await;
        let most = in_flight.lock().1;
        (began.elapsed(), most)
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_reloads_keep_a_store_busy_and_its_queue_short() {
        // Twice a server with 2,000 loads/s, 16 connections with 3 ms, 1,000 with 100 ms, and a throttled server.
        for (nodes, loads, servers, each, ideal) in [
            (1, 4_000, 1, Duration::from_micros(500), 2.0),
            (10, 1_000, 1, Duration::from_micros(500), 5.0),
            (1, 16_000, 16, Duration::from_millis(3), 3.0),
            (1, 3_200, 1_000, Duration::from_millis(100), 5.0),
            (4, 500, 1, Duration::from_millis(4), 8.0),
        ] {
            let (took, most) = run(nodes, loads, servers, each).await;
            let took = took.as_secs_f64();
            assert!(took <= ideal * 2.0, "{nodes} nodes, {servers} of {each:?}: {took} s");
            assert!(
                most <= (servers + 8 * nodes).min(MAX_LIMIT * nodes),
                "{most} in flight with {nodes} nodes"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_failing_store_gets_one_reload_at_a_time() {
        let limit = ReloadLimit::new();
        for _ in 0..100 {
            limit.permit().await.unwrap().failed();
        }
        let only = limit.permit().await.unwrap();
        assert_eq!(limit.slots.available_permits(), 0);
        only.answered();
        assert!(limit.slots.available_permits() >= 1, "the limit grows again");
    }
}
