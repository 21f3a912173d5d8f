//! A thread with a connection of its own.

use std::{sync::Arc, thread, time::SystemTime};

use diesel::{SqliteConnection, connection::SimpleConnection as _};
use tokio::sync::{mpsc, oneshot};

use super::{connection::SqliteOpener, file::Log};
use crate::error::Error;

/// How many calls share a transaction.
const BATCH: usize = 256;
/// How many calls may wait; more wait outside, where they can be dropped.
const QUEUE: usize = 1024;

/// What a call does on the thread, with the time in milliseconds since 1970.
type Run<T> = Box<dyn FnOnce(&mut SqliteConnection, i64) -> Result<T, Error> + Send>;

/// A thread that runs calls on a connection of its own, and ends when this is dropped.
pub(super) struct Worker {
    queue: mpsc::Sender<Box<dyn Call>>,
}

/// How a worker runs its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each by itself, as one statement that only reads.
    Read,
    /// All that wait in one transaction: a group commit. Answers are given after the commit.
    Write,
}

impl Worker {
    pub(super) fn spawn(name: &str, opener: SqliteOpener, mode: Mode) -> Result<Self, Error> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || Thread { opener, mode, connection: None, log: Log::default() }.work(waiting))
            .map_err(|error| Error::Unfit(format!("no thread for it: {error}")))?;
        Ok(Self { queue })
    }

    /// Runs `call` on the thread. Dropped before its turn, it is not run at all.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut SqliteConnection, i64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let call = Pending { run: Some(Box::new(run)), outcome: None, reply };
        self.queue.send(Box::new(call)).await.map_err(|_| Error::Gone)?;
        answer.await.unwrap_or(Err(Error::Gone))
    }
}

/// A call of any kind, on its way through the thread.
trait Call: Send {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;
    /// Runs it and keeps its outcome.
    fn run(&mut self, sqlite: &mut SqliteConnection, now: i64) -> Result<(), Error>;
    /// Gives its outcome, or the error that undid it.
    fn answer(self: Box<Self>, undone: Option<&Error>);
}

struct Pending<T> {
    run: Option<Run<T>>,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send> Call for Pending<T> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, sqlite: &mut SqliteConnection, now: i64) -> Result<(), Error> {
        if let Some(run) = self.run.take() {
            self.outcome = Some(run(sqlite, now)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, undone: Option<&Error>) {
        let outcome = match undone {
            Some(error) => Err(error.clone()),
            None => self.outcome.ok_or(Error::Gone),
        };
        // Whoever asked may have left; that is their business.
        let _ = self.reply.send(outcome);
    }
}

struct Thread {
    opener: SqliteOpener,
    mode: Mode,
    /// None before the first call, and after an error that only a new connection may mend.
    connection: Option<SqliteConnection>,
    log: Log,
}

impl Thread {
    fn work(mut self, mut waiting: mpsc::Receiver<Box<dyn Call>>) {
        let mut calls = Vec::new();
        while waiting.blocking_recv_many(&mut calls, BATCH) > 0 {
            calls.retain(|call| call.is_wanted());
            if let Err(replaced) = self.opener.file.check() {
                calls.drain(..).for_each(|call| call.answer(Some(&replaced)));
                continue;
            }
            match self.mode {
                Mode::Write => self.write(&mut calls),
                Mode::Read => self.read(&mut calls),
            }
        }
    }

    fn read(&mut self, calls: &mut Vec<Box<dyn Call>>) {
        for mut call in calls.drain(..) {
            let undone = self.attempt(|sqlite| call.run(sqlite, now())).err();
            call.answer(undone.as_ref());
        }
    }

    fn write(&mut self, calls: &mut Vec<Box<dyn Call>>) {
        if calls.is_empty() {
            return;
        }
        let undone = self.attempt(|sqlite| transaction(sqlite, calls)).and_then(|()| self.is_kept()).err();
        for call in calls.drain(..) {
            call.answer(undone.as_ref());
        }
        if let Some(sqlite) = self.connection.as_mut().filter(|_| undone.is_some_and(|error| error.is_full()))
        {
            // The log has pages many times over: once they are in the database, it is written from its beginning.
            let _ = sqlite.batch_execute("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    /// Whether what was written is in the files that the next process will open.
    fn is_kept(&mut self) -> Result<(), Error> {
        self.opener.file.check()?;
        self.log.check(&self.opener.file)
    }

    /// Does something with the connection; after an error that may be the connection's, drops it.
    fn attempt<T>(
        &mut self,
        run: impl FnOnce(&mut SqliteConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.log = Log::default();
                self.opener.open()?
            }
        };
        let outcome = run(&mut connection);
        if outcome.as_ref().err().is_none_or(Error::is_of_the_moment) {
            self.connection = Some(connection);
        }
        outcome
    }
}

/// Runs all calls in one transaction: all of them are done, or none.
///
/// Each is judged by what those before it have done. An error of one undoes all, as SQLite itself
/// gives up the whole transaction after most of its errors.
fn transaction(sqlite: &mut SqliteConnection, calls: &mut [Box<dyn Call>]) -> Result<(), Error> {
    sqlite.batch_execute("BEGIN IMMEDIATE")?;
    // Read under the lock, so that it never runs behind that of the writer before.
    let now = now();
    let outcome = calls
        .iter_mut()
        .try_for_each(|call| call.run(sqlite, now))
        .and_then(|()| sqlite.batch_execute("COMMIT").map_err(not_committed));
    if outcome.is_err() {
        // An error here says that SQLite has done it already.
        let _ = sqlite.batch_execute("ROLLBACK");
    }
    outcome
}

/// The error of a COMMIT. SQLite writes the log only there, so this is where a full disk shows. The transaction is then
/// rolled back, so that its outcome is known; after any other error it is not.
fn not_committed(error: diesel::result::Error) -> Error {
    let error = Arc::new(error);
    let full = Error::Query(Arc::clone(&error));
    if full.is_full() { full } else { Error::Transaction(error) }
}

/// The time by this machine's clock, which is SQLite's.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
