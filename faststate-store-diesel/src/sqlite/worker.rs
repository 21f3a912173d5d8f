//! A thread with its own connection.

use std::{sync::Arc, thread, time::SystemTime};

use diesel::{SqliteConnection, connection::SimpleConnection as _};
use tokio::sync::{mpsc, oneshot};

use super::{connection::SqliteOpener, file::WalFile};
use crate::error::BackendError;

/// Maximum number of calls in one transaction.
const MAX_BATCH_CALLS: usize = 256;
/// Maximum number of queued calls. Further callers wait to enqueue theirs, and can be dropped.
const MAX_QUEUED_CALLS: usize = 1024;

/// The function that a call runs on the thread. Its second argument is the time in milliseconds since 1970.
type Run<T> = Box<dyn FnOnce(&mut SqliteConnection, i64) -> Result<T, BackendError> + Send>;

/// A thread that runs calls on a connection of its own, and ends when this is dropped.
pub(super) struct Worker {
    queue: mpsc::Sender<Box<dyn WorkerCall>>,
}

/// How a worker runs its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerMode {
    /// Each call by itself, as one statement that only reads.
    Read,
    /// All queued calls in one transaction (a group commit). Callers receive their results after the commit.
    Write,
}

impl Worker {
    pub(super) fn spawn(name: &str, opener: SqliteOpener, mode: WorkerMode) -> Result<Self, BackendError> {
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_CALLS);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || Thread { opener, mode, connection: None, log: WalFile::default() }.work(waiting))
            .map_err(|error| BackendError::Unfit(format!("no thread for it: {error}")))?;
        Ok(Self { queue })
    }

    /// Runs a function on the thread. If the future is dropped before its turn, the function is not run.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut SqliteConnection, i64) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let (reply, answer) = oneshot::channel();
        let call = TypedCall { run: Some(Box::new(run)), outcome: None, reply };
        self.queue.send(Box::new(call)).await.map_err(|_| BackendError::Gone)?;
        answer.await.unwrap_or(Err(BackendError::Gone))
    }
}

/// A queued call, without its result type.
trait WorkerCall: Send {
    /// Returns whether the caller still waits.
    fn is_wanted(&self) -> bool;
    /// Runs the call and keeps its outcome.
    fn run(&mut self, sqlite: &mut SqliteConnection, now: i64) -> Result<(), BackendError>;
    /// Sends the caller the outcome, or the error that rolled it back.
    fn answer(self: Box<Self>, failure: Option<&BackendError>);
}

struct TypedCall<T> {
    run: Option<Run<T>>,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, BackendError>>,
}

impl<T: Send> WorkerCall for TypedCall<T> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, sqlite: &mut SqliteConnection, now: i64) -> Result<(), BackendError> {
        if let Some(run) = self.run.take() {
            self.outcome = Some(run(sqlite, now)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&BackendError>) {
        let outcome = match failure {
            Some(error) => Err(error.clone()),
            None => self.outcome.ok_or(BackendError::Gone),
        };
        // Fails only if the caller has given up.
        let _ = self.reply.send(outcome);
    }
}

struct Thread {
    opener: SqliteOpener,
    mode: WorkerMode,
    /// `None` before the first call, and after an error that may concern the connection.
    connection: Option<SqliteConnection>,
    log: WalFile,
}

impl Thread {
    fn work(mut self, mut waiting: mpsc::Receiver<Box<dyn WorkerCall>>) {
        let mut calls = Vec::new();
        while waiting.blocking_recv_many(&mut calls, MAX_BATCH_CALLS) > 0 {
            calls.retain(|call| call.is_wanted());
            if let Err(replaced) = self.opener.file.check() {
                calls.drain(..).for_each(|call| call.answer(Some(&replaced)));
                continue;
            }
            match self.mode {
                WorkerMode::Write => self.write(&mut calls),
                WorkerMode::Read => self.read(&mut calls),
            }
        }
    }

    fn read(&mut self, calls: &mut Vec<Box<dyn WorkerCall>>) {
        for mut call in calls.drain(..) {
            let failure = self.attempt(|sqlite| call.run(sqlite, now())).err();
            call.answer(failure.as_ref());
        }
    }

    fn write(&mut self, calls: &mut Vec<Box<dyn WorkerCall>>) {
        if calls.is_empty() {
            return;
        }
        let failure = self.attempt(|sqlite| transaction(sqlite, calls)).and_then(|()| self.is_kept()).err();
        for call in calls.drain(..) {
            call.answer(failure.as_ref());
        }
        if let Some(sqlite) =
            self.connection.as_mut().filter(|_| failure.is_some_and(|error| error.is_full()))
        {
            // The log may contain several versions of a page. After a checkpoint, SQLite writes it from the beginning.
            let _ = sqlite.batch_execute("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    /// Checks that the saves are in the files that the next process will open.
    fn is_kept(&mut self) -> Result<(), BackendError> {
        self.opener.file.check()?;
        self.log.check(&self.opener.file)
    }

    /// Runs a function on the connection, and drops the connection after an error that may concern it.
    fn attempt<T>(
        &mut self,
        run: impl FnOnce(&mut SqliteConnection) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.log = WalFile::default();
                self.opener.open()?
            }
        };
        let outcome = run(&mut connection);
        if outcome.as_ref().err().is_none_or(BackendError::is_temporary) {
            self.connection = Some(connection);
        }
        outcome
    }
}

/// Runs all calls in one transaction: either all take effect or none.
///
/// Each call sees the results of the calls before it. One error rolls back all calls, because SQLite itself aborts the
/// whole transaction after most errors.
fn transaction(sqlite: &mut SqliteConnection, calls: &mut [Box<dyn WorkerCall>]) -> Result<(), BackendError> {
    sqlite.batch_execute("BEGIN IMMEDIATE")?;
    // Read under the lock, so that it is never earlier than the time of the previous writer.
    let now = now();
    let outcome = calls
        .iter_mut()
        .try_for_each(|call| call.run(sqlite, now))
        .and_then(|()| sqlite.batch_execute("COMMIT").map_err(not_committed));
    if outcome.is_err() {
        // Fails only if SQLite has already rolled back.
        let _ = sqlite.batch_execute("ROLLBACK");
    }
    outcome
}

/// Classifies the error of a COMMIT. SQLite writes the log only there, so a full disk is reported there. That transaction
/// is rolled back; after any other error, the outcome is unknown.
fn not_committed(error: diesel::result::Error) -> BackendError {
    let error = Arc::new(error);
    let full = BackendError::Query(Arc::clone(&error));
    if full.is_full() { full } else { BackendError::Transaction(error) }
}

/// The time of this machine's clock, which SQLite also uses.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
