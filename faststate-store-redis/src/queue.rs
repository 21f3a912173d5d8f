//! Concurrent calls share pipelines.

use std::{sync::Arc, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{Pipeline, RedisResult, Value},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::yield_now,
    time::timeout,
};

use crate::{
    connection::{Connection, Connector, LastFailure},
    error::Problem,
    order::{Order, lacks_script},
};

/// How many calls may wait to be sent.
const WAITING: usize = 4096;
/// How many calls one pipeline carries.
const CALLS: usize = 512;
/// About how many bytes one pipeline carries, unless a single call has more.
const BYTES: usize = 1 << 20;

/// The way to Redis: calls that come while others are on their way leave together, with the next pipeline.
///
/// Each of a few tasks has at most one pipeline on its way. A call that its caller has given up is not
/// sent; one that is sent runs to its end.
pub(crate) struct Queue {
    orders: mpsc::Sender<Call>,
    patience: Duration,
}

struct Call {
    order: Order,
    answer: oneshot::Sender<Result<Value, Problem>>,
}

impl Queue {
    /// Starts so many tasks, as many as the pool may have connections; they end with the queue.
    pub(crate) fn start(line: Line, pipelines: u32, patience: Duration) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING);
        let (line, waiting) = (Arc::new(line), Arc::new(Mutex::new(waiting)));
        for _ in 0..pipelines {
            let (line, waiting) = (Arc::clone(&line), Arc::clone(&waiting));
            tokio::spawn(async move {
                while let Some(calls) = next(&waiting).await {
                    line.send(calls).await;
                }
            });
        }
        Self { orders, patience }
    }

    /// Asks Redis, within the time that a call may take.
    pub(crate) async fn ask(&self, order: Order) -> Result<Value, Problem> {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.orders.send(Call { order, answer }).await.map_err(|_| Problem::Ended)?;
            answered.await.map_err(|_| Problem::Ended)?
        };
        timeout(self.patience, ask).await.unwrap_or(Err(Problem::Late(self.patience)))
    }
}

/// The calls that one pipeline carries; none when the queue is gone.
async fn next(waiting: &Mutex<mpsc::Receiver<Call>>) -> Option<Vec<Call>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    // Whoever is about to call, calls now.
    yield_now().await;
    let mut bytes = first.order.weight();
    let mut calls = vec![first];
    while calls.len() < CALLS
        && bytes < BYTES
        && let Ok(call) = waiting.try_recv()
    {
        bytes += call.order.weight();
        calls.push(call);
    }
    Some(calls)
}

/// Where pipelines go.
pub(crate) struct Line {
    pub(crate) pool: Pool<Connector>,
    pub(crate) failure: LastFailure,
    pub(crate) address: String,
}

impl Line {
    async fn send(&self, mut calls: Vec<Call>) {
        let sent = match self.pool.get().await {
            Ok(mut connection) => {
                calls.retain(|call| !call.answer.is_closed());
                exchange(&mut connection, &calls).await.map_err(Problem::Redis)
            }
            // In time or not, what bb8 says is that there is none.
            Err(_) => Err(Problem::Connection { address: self.address.clone(), source: self.failure.get() }),
        };
        match sent {
            Ok(answers) => {
                for (call, answer) in calls.into_iter().zip(answers) {
                    // Whoever asked may have gone.
                    let _ = call.answer.send(answer.map_err(Problem::Redis));
                }
            }
            Err(problem) => {
                for call in calls {
                    let _ = call.answer.send(Err(problem.clone()));
                }
            }
        }
    }
}

/// Sends the calls; those whose script Redis has forgotten once more. Nothing is sent twice that may have
/// run once.
async fn exchange(connection: &mut Connection, calls: &[Call]) -> RedisResult<Vec<RedisResult<Value>>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let mut answers = connection.exchange(pipeline(connection, calls.iter())).await?;
    if answers.iter().any(lacks_script) {
        connection.reload().await?;
        let again: Vec<_> = (0..answers.len()).filter(|at| lacks_script(&answers[*at])).collect();
        let repeat = pipeline(connection, again.iter().map(|at| &calls[*at]));
        for (at, answer) in again.iter().zip(connection.exchange(repeat).await?) {
            answers[*at] = answer;
        }
    }
    Ok(answers)
}

fn pipeline<'a>(connection: &Connection, calls: impl ExactSizeIterator<Item = &'a Call>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call.order.command(connection.scripts()));
    }
    pipeline
}
