//! Jobs: work outside the states that must be done at least once.

use std::{any::TypeId, fmt, future::Future, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Key, Registry, event::Environment};

/// Work outside the states, such as sending an email or calling another service.
///
/// An event requests it with [`Context::run`](crate::Context::run), and application code with
/// [`StateRegistry::run`](crate::StateRegistry::run). The request is saved with the state, so the job runs at least once,
/// whatever crashes; it may run more than once. Pass [`JobContext::id`] to the other service if it recognises repeats.
///
/// ```
/// # use faststate_core::{Job, JobContext, Retry};
/// # use serde::{Deserialize, Serialize};
/// # struct Mailer;
/// # impl Mailer { async fn send(&self, _: &str, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
/// #[derive(Serialize, Deserialize)]
/// struct SendMail { to: String }
///
/// impl Job for SendMail {
///     const NAME: &'static str = "send_mail";
///
///     async fn run(&self, job: &JobContext) -> Result<(), Retry> {
///         let mailer = job.resource::<Mailer>().ok_or_else(|| Retry::give_up("there is no mailer"))?;
///         mailer.send(&self.to, job.id()).await.map_err(Retry::later)
///     }
/// }
/// ```
///
/// # For implementers
/// Register the type with [`RegistryBuilder::job`](crate::registry::RegistryBuilder::job) on every node. A node that does
/// not know a job parks it with a reason, and an operator can retry it after a deployment.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name, unique among the jobs of the registry: `[a-z][a-z0-9_]*` without `__`, at most 64 bytes.
    const NAME: &'static str;

    /// The time after which an attempt is dropped and the job is retried.
    const TIMEOUT: Duration = Duration::from_secs(300);

    /// Does the work.
    ///
    /// # Errors
    /// Return [`Retry::later`] or [`Retry::after`] to run the job again, and [`Retry::give_up`] to park it. A panic counts
    /// as [`Retry::later`].
    ///
    /// # Cancellation
    /// The future is dropped at the [`TIMEOUT`](Self::TIMEOUT) and when the process ends. The job is then retried.
    fn run(&self, job: &JobContext) -> impl Future<Output = Result<(), Retry>> + Send;
}

/// The context of one attempt of a job.
#[derive(Debug)]
pub struct JobContext {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) key: Key,
    pub(crate) environment: Arc<Environment>,
}

impl JobContext {
    /// Returns the id of the job: 32 hexadecimal digits. It is the same for every attempt.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of this attempt. The first one is 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the key of the instance whose event requested the job.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the resource of type `T` that was passed to the builder, for example a mail client.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.environment.resources().shared(TypeId::of::<T>())?.downcast().ok()
    }

    /// Returns the registry, unless it is shutting down.
    #[must_use]
    pub fn registry(&self) -> Option<Arc<dyn Registry>> {
        self.environment.registry().ok()
    }
}

/// The failure of an attempt, and what happens next.
#[derive(Debug)]
pub struct Retry {
    pub(crate) next: NextAttempt,
    pub(crate) reason: String,
}

/// What happens after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    Later,
    After(Duration),
    Never,
}

impl Retry {
    /// Runs the job again after a pause, which grows from 1 s to 10 minutes with the number of attempts.
    pub fn later(reason: impl fmt::Display) -> Self {
        Self::new(NextAttempt::Later, &reason)
    }

    /// Runs the job again after `pause`.
    pub fn after(pause: Duration, reason: impl fmt::Display) -> Self {
        Self::new(NextAttempt::After(pause), &reason)
    }

    /// Parks the job, so that an operator can retry or drop it.
    pub fn give_up(reason: impl fmt::Display) -> Self {
        Self::new(NextAttempt::Never, &reason)
    }

    fn new(next: NextAttempt, reason: &dyn fmt::Display) -> Self {
        Self { next, reason: reason.to_string() }
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Retry {}
