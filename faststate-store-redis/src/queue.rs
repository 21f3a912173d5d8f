//! Combines concurrent calls to one server into pipelines.

use std::{sync::Arc, time::Duration};

use bb8_redis::{
    bb8::Pool,
    redis::{Pipeline, RedisResult, Value, cmd},
};
use faststate_core::store::{BatchedCall, CallQueue, QueueLimits};
use tokio::time::timeout;

use crate::{
    command::{StoreCommand, lacks_script},
    connection::{Connector, LastFailure, PooledConnection},
    durability::{self, Durability},
    error::RedisStoreError,
    primary::Primary,
};

/// Maximum number of calls in one pipeline.
const MAX_PIPELINE_CALLS: usize = 512;
/// Approximate maximum of bytes in one pipeline; a single larger call is sent alone.
const MAX_PIPELINE_BYTES: usize = 1 << 20;

pub(crate) type CallResult = Result<Value, RedisStoreError>;

/// The limits of the calls to one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// Deadline of a call.
    pub(crate) timeout: Duration,
    /// Maximum number of connections, each with one pipeline in progress.
    pub(crate) connections: u32,
}

/// A queue of calls to one server. Calls that are queued while others are in progress share the next pipeline.
///
/// Each lane has at most one pipeline in progress. A call whose caller has given up is not sent; a sent call runs to
/// its end.
#[derive(Clone)]
pub(crate) struct CommandQueue {
    commands: CallQueue<RoutedCommand, CallResult>,
    sender: Arc<PipelineSender>,
    call_timeout: Duration,
}

/// A command, and how a server of a cluster has to take it.
struct RoutedCommand {
    command: Arc<StoreCommand>,
    /// Whether the command follows a redirection to a server that is taking over the slot.
    asking: bool,
}

impl CommandQueue {
    /// Starts a lane for each connection. They end when the queue is dropped.
    pub(crate) fn start(primary: Primary, address: String, limits: CallLimits) -> Self {
        let CallLimits { timeout, connections } = limits;
        let connector = Connector::new(primary);
        let failure = connector.failure();
        let pool = Pool::builder()
            .max_size(connections)
            .connection_timeout(timeout / 2)
            // Free of cost, because `Connector::is_valid` sends nothing.
            .test_on_check_out(true)
            .build_unchecked(connector);
        let sender = Arc::new(PipelineSender { pool, failure, reason_timeout: timeout / 4, address });
        let batches =
            QueueLimits::new(connections).with_calls(MAX_PIPELINE_CALLS).with_bytes(MAX_PIPELINE_BYTES);
        let lane_sender = Arc::clone(&sender);
        let commands = CallQueue::start(
            batches,
            |call: &RoutedCommand| call.command.weight(),
            move |calls| {
                let sender = Arc::clone(&lane_sender);
                async move { sender.send(calls).await }
            },
        );
        Self { commands, sender, call_timeout: timeout }
    }

    /// Sends a command and returns its answer, within the deadline of a call.
    pub(crate) async fn run(&self, command: Arc<StoreCommand>, asking: bool) -> CallResult {
        let call = async {
            let answer = self.commands.call(RoutedCommand { command, asking }).await;
            answer.unwrap_or(Err(RedisStoreError::Ended))
        };
        timeout(self.call_timeout, call).await.unwrap_or(Err(RedisStoreError::Late(self.call_timeout)))
    }

    /// Judges the server's settings.
    pub(crate) async fn durability(&self) -> Result<Durability, RedisStoreError> {
        let Ok(mut connection) = self.sender.pool.get().await else {
            return Err(self.sender.no_connection().await);
        };
        let settings = connection.exchange(durability::settings_query()).await;
        Ok(Durability::judge(settings.map_err(RedisStoreError::Redis)?))
    }
}

/// Sends pipelines through the connections of a pool.
struct PipelineSender {
    pool: Pool<Connector>,
    failure: LastFailure,
    /// How long a call without a connection waits for the reason.
    reason_timeout: Duration,
    address: String,
}

impl PipelineSender {
    async fn send(&self, mut calls: Vec<BatchedCall<RoutedCommand, CallResult>>) {
        let sent = match self.pool.get().await {
            Ok(mut connection) => {
                calls.retain(BatchedCall::is_wanted);
                exchange(&mut connection, &calls).await.map_err(RedisStoreError::Redis)
            }
            Err(_) => Err(self.no_connection().await),
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

    /// bb8 reports only that there is no connection; the reason is in `failure`. On a busy machine, it may arrive there
    /// after the pool has given up.
    async fn no_connection(&self) -> RedisStoreError {
        let source = self.failure.wait(self.reason_timeout).await;
        RedisStoreError::Connection { address: self.address.clone(), source }
    }
}

/// Sends the calls, and repeats those whose script Redis no longer has. No call is sent again that may have been
/// executed.
async fn exchange(
    connection: &mut PooledConnection,
    calls: &[BatchedCall<RoutedCommand, CallResult>],
) -> RedisResult<Vec<RedisResult<Value>>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let mut answers = send(connection, calls.iter()).await?;
    if answers.iter().any(lacks_script) {
        connection.reload().await?;
        let again: Vec<_> = (0..answers.len()).filter(|at| lacks_script(&answers[*at])).collect();
        let repeated = send(connection, again.iter().map(|at| &calls[*at])).await?;
        for (at, answer) in again.into_iter().zip(repeated) {
            answers[at] = answer;
        }
    }
    Ok(answers)
}

/// Sends the calls in one pipeline, and returns the answer to each.
async fn send<'a>(
    connection: &mut PooledConnection,
    calls: impl ExactSizeIterator<Item = &'a BatchedCall<RoutedCommand, CallResult>> + Clone,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::with_capacity(calls.len());
    for call in calls.clone() {
        if call.call.asking {
            pipeline.add_command(cmd("ASKING"));
        }
        pipeline.add_command(call.call.command.command(connection.scripts()));
    }
    let mut answers = connection.exchange(pipeline).await?.into_iter();
    let answer = |call: &BatchedCall<RoutedCommand, CallResult>| {
        if call.call.asking {
            answers.next();
        }
        answers.next()
    };
    Ok(calls.map_while(answer).collect())
}
