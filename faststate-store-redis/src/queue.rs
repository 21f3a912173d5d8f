//! Concurrent calls share pipelines.

use std::{sync::Arc, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{Pipeline, RedisResult, Value},
};
use faststate_core::store::{self, Shards, Waiting};
use tokio::time::timeout;

use crate::{
    connection::{Connection, Connector, LastFailure},
    error::Problem,
    order::{Order, lacks_script},
};

/// How many calls one pipeline carries.
const CALLS: usize = 512;
/// About how many bytes one pipeline carries, unless a single call has more.
const BYTES: usize = 1 << 20;

type Answer = Result<Value, Problem>;

/// The way to Redis: calls that come while others are on their way leave together, with the next pipeline.
///
/// Each lane has at most one pipeline on its way. A call that its caller has given up is not sent; one that
/// is sent runs to its end.
#[derive(Clone)]
pub(crate) struct Queue {
    orders: store::Queue<Order, Answer>,
    patience: Duration,
}

impl Queue {
    /// Starts so many lanes, as many as the pool may have connections; they end with the queue.
    pub(crate) fn start(line: Line, pipelines: u32, patience: Duration) -> Self {
        let line = Arc::new(line);
        let lanes = Shards::new(pipelines).with_calls(CALLS).with_bytes(BYTES);
        let orders = store::Queue::start(lanes, Order::weight, move |calls| {
            let line = Arc::clone(&line);
            async move { line.send(calls).await }
        });
        Self { orders, patience }
    }

    /// Asks Redis, within the time that a call may take.
    pub(crate) async fn ask(&self, order: Order) -> Answer {
        let ask = async { self.orders.ask(order).await.unwrap_or(Err(Problem::Ended)) };
        timeout(self.patience, ask).await.unwrap_or(Err(Problem::Late(self.patience)))
    }
}

/// Where pipelines go.
pub(crate) struct Line {
    pub(crate) pool: Pool<Connector>,
    pub(crate) failure: LastFailure,
    pub(crate) address: String,
}

impl Line {
    async fn send(&self, mut calls: Vec<Waiting<Order, Answer>>) {
        let sent = match self.pool.get().await {
            Ok(mut connection) => {
                calls.retain(Waiting::is_wanted);
                exchange(&mut connection, &calls).await.map_err(Problem::Redis)
            }
            // In time or not, what bb8 says is that there is none.
            Err(_) => Err(Problem::Connection { address: self.address.clone(), source: self.failure.get() }),
        };
        match sent {
            Ok(answers) => {
                for (call, answer) in calls.into_iter().zip(answers) {
                    call.answer(answer.map_err(Problem::Redis));
                }
            }
            Err(problem) => {
                for call in calls {
                    call.answer(Err(problem.clone()));
                }
            }
        }
    }
}

/// Sends the calls; those whose script Redis has forgotten once more. Nothing is sent twice that may have
/// run once.
async fn exchange(
    connection: &mut Connection,
    calls: &[Waiting<Order, Answer>],
) -> RedisResult<Vec<RedisResult<Value>>> {
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

fn pipeline<'a>(
    connection: &Connection,
    calls: impl ExactSizeIterator<Item = &'a Waiting<Order, Answer>>,
) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call.call.command(connection.scripts()));
    }
    pipeline
}
