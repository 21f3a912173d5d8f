//! The registered jobs, without their types.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt as _;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::settlement::SettledAs;
use crate::{Job, JobContext, Retry, job::NextAttempt, registry::panics::panic_text};

/// The first and the longest pause before a message or job is tried again. Pauses double, and each is changed by a random
/// factor from 0.5 to 1.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// The longest pause that a job can request: 30 days.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_hours(30 * 24);

/// The jobs of a registry, by name.
pub(in crate::registry) type JobTable = BTreeMap<&'static str, Arc<dyn AnyJob>>;

/// One type of job.
#[async_trait]
pub(in crate::registry) trait AnyJob: Send + Sync {
    /// Runs one attempt.
    async fn run(&self, input: &RawValue, context: JobContext) -> SettledAs;
}

/// A type of job.
pub(in crate::registry) struct JobType<J>(std::marker::PhantomData<fn() -> J>);

impl<J: Job> JobType<J> {
    pub(in crate::registry) fn erased() -> Arc<dyn AnyJob> {
        Arc::new(Self(std::marker::PhantomData))
    }
}

#[async_trait]
impl<J: Job> AnyJob for JobType<J> {
    async fn run(&self, input: &RawValue, context: JobContext) -> SettledAs {
        let attempts = context.attempt - 1;
        let attempt = AssertUnwindSafe(async {
            let job: J = serde_json::from_str(input.get()).map_err(|error| {
                Retry::give_up(format_args!("the input of the job does not decode: {error}"))
            })?;
            job.run(&context).await
        });
        let attempt = attempt.catch_unwind();
        let failure = match timeout(J::TIMEOUT, attempt).await {
            Ok(Ok(Ok(()))) => return SettledAs::Accepted,
            Ok(Ok(Err(retry))) => retry,
            Ok(Err(panic)) => Retry::later(format!("the job panicked: {}", panic_text(&*panic))),
            Err(_) => Retry::later(format!("the job took longer than {:?}", J::TIMEOUT)),
        };
        let Retry { next, reason } = failure;
        tracing::warn!(job = J::NAME, id = context.id, attempt = context.attempt, reason, "a job failed");
        match next {
            NextAttempt::Never => SettledAs::Parked(reason),
            NextAttempt::Later => SettledAs::Retried { millis: retry_pause(attempts) },
            NextAttempt::After(pause) => {
                SettledAs::Retried { millis: pause.min(MAX_REQUESTED_PAUSE).as_millis() as u64 }
            }
        }
    }
}

/// Returns the pause before the next attempt, in milliseconds.
pub(super) fn retry_pause(attempts: u32) -> u64 {
    let (first, longest) = RETRY_PAUSES;
    let pause = first.saturating_mul(1 << attempts.min(16)).min(longest);
    pause.mul_f64(rand::random_range(0.5..1.0)).as_millis() as u64
}
