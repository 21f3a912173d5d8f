//! Transfers and jobs written by hand: one transaction over two rows, and a table of jobs.
//!
//! A worker takes up to 64 jobs at once, runs them, and deletes each one. It is woken when a job is inserted.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The most jobs that the worker takes at once.
const BATCH: i64 = 64;

/// The callers that wait for their jobs.
#[derive(Default)]
struct Waiting(Mutex<HashMap<i64, oneshot::Sender<()>>>);

impl Waiting {
    fn end(&self, number: i64) {
        if let Some(caller) = self.0.lock().remove(&number) {
            let _ = caller.send(());
        }
    }
}

/// Returns the number of a job.
fn number(pair: usize, round: u64) -> i64 {
    i64::try_from((pair as u64) << 32 | round).unwrap()
}
