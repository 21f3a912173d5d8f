//! Combines concurrent calls into pipelines.

use std::{sync::Arc, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{Pipeline, RedisResult, Value},
};
use faststate_core::store::{CallQueue, QueueLimits, QueuedCall};
use tokio::time::timeout;

use crate::{
    command::{StoreCommand, lacks_script},
    connection::{Connector, LastFailure, PooledConnection},
    error::RedisStoreError,
};

/// Maximum number of calls in one pipeline.
const MAX_PIPELINE_CALLS: usize = 512;
/// Approximate maximum of bytes in one pipeline; a single larger call is sent alone.
const MAX_PIPELINE_BYTES: usize = 1 << 20;

type CallResult = Result<Value, RedisStoreError>;

/// A queue of calls. Calls that are queued while others are in progress share the next pipeline.
///
/// Each lane has at most one pipeline in progress. A call whose caller has given up is not sent; a sent call runs to its
/// end.
#[derive(Clone)]
pub(crate) struct CommandQueue {
    commands: CallQueue<StoreCommand, CallResult>,
    call_timeout: Duration,
}

impl CommandQueue {
    /// Starts `pipelines` lanes, one for each connection of the pool. They end when the queue is dropped.
    pub(crate) fn start(sender: PipelineSender, pipelines: u32, call_timeout: Duration) -> Self {
        let sender = Arc::new(sender);
        let limits =
            QueueLimits::new(pipelines).with_calls(MAX_PIPELINE_CALLS).with_bytes(MAX_PIPELINE_BYTES);
        let commands = CallQueue::start(limits, StoreCommand::weight, move |calls| {
            let sender = Arc::clone(&sender);
            async move { sender.send(calls).await }
        });
        Self { commands, call_timeout }
    }

    /// Sends a command and returns its answer, within the deadline of a call.
    pub(crate) async fn run(&self, command: StoreCommand) -> CallResult {
        let call = async { self.commands.call(command).await.unwrap_or(Err(RedisStoreError::Ended)) };
        timeout(self.call_timeout, call).await.unwrap_or(Err(RedisStoreError::Late(self.call_timeout)))
    }
}

/// Sends pipelines through the connections of a pool.
pub(crate) struct PipelineSender {
    pub(crate) pool: Pool<Connector>,
    pub(crate) failure: LastFailure,
    pub(crate) address: String,
}

impl PipelineSender {
    async fn send(&self, mut calls: Vec<QueuedCall<StoreCommand, CallResult>>) {
        let sent = match self.pool.get().await {
            Ok(mut connection) => {
                calls.retain(QueuedCall::is_wanted);
                exchange(&mut connection, &calls).await.map_err(RedisStoreError::Redis)
            }
            // bb8 reports only that there is no connection; the reason is in `failure`.
            Err(_) => {
                Err(RedisStoreError::Connection { address: self.address.clone(), source: self.failure.get() })
            }
        };
        match sent {
            Ok(answers) => {
                for (call, answer) in calls.into_iter().zip(answers) {
                    call.answer(answer.map_err(RedisStoreError::Redis));
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

/// Sends the calls, and repeats those whose script Redis no longer has. No call is sent again that may have been
/// executed.
async fn exchange(
    connection: &mut PooledConnection,
    calls: &[QueuedCall<StoreCommand, CallResult>],
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
    connection: &PooledConnection,
    calls: impl ExactSizeIterator<Item = &'a QueuedCall<StoreCommand, CallResult>>,
) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls {
        pipeline.add_command(call.call.command(connection.scripts()));
    }
    pipeline
}
