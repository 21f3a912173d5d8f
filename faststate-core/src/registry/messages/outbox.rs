//! The unfinished messages, timers and jobs of one instance.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{
    BoxError, Key, SessionId, Version, Viewer,
    event::{Cause, DraftedEdit, EncodedEvent, OutboxEdit},
    store::PendingMessages,
};

/// The most messages, timers and jobs that one event may request.
const MAX_PER_EVENT: usize = 256;
/// The number of messages, timers and jobs of one instance from which no event may request another one.
const MAX_ENTRIES: usize = 4096;
/// The maximum size of one message's events, in bytes of JSON.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The maximum length of a timer's name in bytes.
const MAX_TIMER_NAME_BYTES: usize = 64;
/// The maximum number of messages that lead to one another. It ends endless loops of states that send to each other.
const MAX_HOPS: u32 = 1000;
/// The time for which a node keeps a message to itself before other nodes may take it.
pub(in crate::registry) const MESSAGE_LEASE: Duration = Duration::from_secs(5);
/// The time for which a node keeps a job to itself, unless it extends the time.
pub(in crate::registry) const JOB_LEASE: Duration = Duration::from_secs(30);

/// The unfinished messages, timers and jobs of one instance, in the order in which they were requested.
#[derive(Debug)]
pub(crate) struct Outbox {
    entries: Vec<Arc<OutboxEntry>>,
    /// The time from which each entry can be processed. A message cannot be delivered before those to the same target
    /// that were sent earlier.
    times: Vec<u64>,
    encoded: PendingMessages,
    due: Option<SystemTime>,
}

/// One message, timer or job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutboxEntry {
    #[serde(with = "hex")]
    pub(crate) id: u128,
    /// When it was requested, in milliseconds since the Unix epoch.
    pub(crate) requested: u64,
    /// When any node may take it, in milliseconds since the Unix epoch, by the store's clock. For a timer, the time at
    /// which it fires.
    pub(crate) from: u64,
    /// The number of failed attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) attempts: u32,
    /// The number of messages that led to it, one after the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) hops: u32,
    #[serde(default, skip_serializing_if = "StoredViewer::is_application")]
    pub(crate) viewer: StoredViewer,
    /// The reason why it waits for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parked: Option<String>,
    pub(crate) work: Work,
}

/// The content of a message, timer or job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    Message {
        to: String,
        event: EncodedEvent,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<EncodedEvent>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        or_else: Option<EncodedEvent>,
    },
    Timer {
        name: String,
        event: EncodedEvent,
    },
    Job {
        name: String,
        input: Box<RawValue>,
    },
    /// An event that follows a message, and that the state refused.
    FollowUp {
        event: EncodedEvent,
        /// The answer of the target, if it rejected the message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rejection: Option<Box<RawValue>>,
    },
}

/// The identity of the viewer that sent the first event, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredViewer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
}

/// The event whose edits change an outbox.
pub(in crate::registry) struct Author<'a> {
    pub(in crate::registry) key: &'a Key,
    /// The version that saves the edits.
    pub(in crate::registry) version: Version,
    /// The time of the store's clock.
    pub(in crate::registry) now: SystemTime,
    pub(in crate::registry) viewer: &'a Viewer,
}

/// An outbox after edits.
pub(in crate::registry) struct EditedOutbox {
    pub(in crate::registry) outbox: Option<Arc<Outbox>>,
    pub(in crate::registry) is_changed: bool,
}

impl Outbox {
    /// Decodes the pending messages of a record.
    pub(in crate::registry) fn decode(pending: &PendingMessages) -> Result<Option<Arc<Self>>, BoxError> {
        if pending.is_empty() {
            return Ok(None);
        }
        let entries: Vec<OutboxEntry> = serde_json::from_slice(&pending.data)?;
        Ok(Self::with_data(entries.into_iter().map(Arc::new).collect(), pending.data.clone()))
    }

    /// Applies edits, in order.
    ///
    /// # Errors
    /// Too many, or too large, messages. The text states the limit.
    pub(in crate::registry) fn edited(
        before: Option<&Arc<Self>>,
        edits: Vec<DraftedEdit>,
        author: &Author<'_>,
    ) -> Result<EditedOutbox, BoxError> {
        let mut editor = Editor {
            entries: before.map(|outbox| outbox.entries.clone()).unwrap_or_default(),
            author,
            now: millis(author.now),
            requested: 0,
            requested_by_event: 0,
            is_changed: false,
        };
        edits.into_iter().try_for_each(|edit| editor.edit(edit))?;
        let Editor { entries, is_changed, .. } = editor;
        if !is_changed {
            return Ok(EditedOutbox { outbox: before.map(Arc::clone), is_changed });
        }
        let refs: Vec<&OutboxEntry> = entries.iter().map(|entry| &**entry).collect();
        let data = Bytes::from(serde_json::to_vec(&refs)?);
        Ok(EditedOutbox { outbox: Self::with_data(entries, data), is_changed })
    }

    /// Whether the instance has its maximum of messages, timers and jobs.
    pub(in crate::registry) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
    }

    fn with_data(entries: Vec<Arc<OutboxEntry>>, data: Bytes) -> Option<Arc<Self>> {
        if entries.is_empty() {
            return None;
        }
        let mut encoded = PendingMessages { data, ..PendingMessages::default() };
        let (mut oldest, mut due) = (None, None);
        let mut targets: HashMap<&str, u64> = HashMap::new();
        let mut times = Vec::with_capacity(entries.len());
        for entry in &entries {
            let mut from = entry.from;
            if entry.parked.is_some() {
                encoded.parked += 1;
            } else {
                if let Work::Message { to, .. } = &entry.work {
                    let latest = targets.entry(to).or_insert(from);
                    *latest = from.max(*latest);
                    from = *latest;
                }
                encoded.waiting += u32::from(!entry.is_timer());
                due = Some(due.map_or(from, |due: u64| due.min(from)));
            }
            times.push(from);
            if entry.parked.is_some() || !entry.is_timer() {
                oldest = Some(oldest.map_or(entry.requested, |oldest: u64| oldest.min(entry.requested)));
            }
        }
        encoded.oldest = oldest.map(time);
        Some(Arc::new(Self { entries, times, encoded, due: due.map(time) }))
    }

    pub(in crate::registry) fn entries(&self) -> &[Arc<OutboxEntry>] {
        &self.entries
    }

    /// Returns the entries that any node may process at `now`, in the order of their times.
    pub(in crate::registry) fn due(&self, now: SystemTime) -> Vec<Arc<OutboxEntry>> {
        let now = millis(now);
        let timed = self.entries.iter().zip(&self.times);
        let mut due: Vec<_> = timed.filter(|(entry, from)| entry.parked.is_none() && **from <= now).collect();
        due.sort_by_key(|(_, from)| **from);
        due.into_iter().map(|(entry, _)| Arc::clone(entry)).collect()
    }

    pub(in crate::registry) fn get(&self, id: u128) -> Option<&Arc<OutboxEntry>> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Returns the fields of the record.
    pub(in crate::registry) fn stored(&self) -> (PendingMessages, Option<SystemTime>) {
        (self.encoded.clone(), self.due)
    }

    /// Returns the number of messages and jobs that are not finished.
    pub(crate) const fn waiting(&self) -> u32 {
        self.encoded.waiting
    }
}

impl OutboxEntry {
    pub(in crate::registry) const fn is_timer(&self) -> bool {
        matches!(self.work, Work::Timer { .. })
    }

    /// The time for which a node keeps it to itself.
    pub(in crate::registry) const fn lease(&self) -> Duration {
        if matches!(self.work, Work::Job { .. }) { JOB_LEASE } else { MESSAGE_LEASE }
    }
}

/// An outbox while edits are applied to it.
struct Editor<'a> {
    entries: Vec<Arc<OutboxEntry>>,
    author: &'a Author<'a>,
    now: u64,
    /// The number of entries that this turn has requested.
    requested: usize,
    /// Those of the current event, if the turn applies several events that follow messages.
    requested_by_event: usize,
    is_changed: bool,
}

impl Editor<'_> {
    fn edit(&mut self, DraftedEdit { edit, cause }: DraftedEdit) -> Result<(), BoxError> {
        let cause = cause.as_deref();
        let hops = cause.map_or(0, |cause| cause.hops);
        match edit {
            OutboxEdit::Send { to, event, then, or_else } => {
                let to = to.as_str().to_owned();
                self.add(self.now, Work::Message { to, event, then, or_else }, hops + 1, cause)
            }
            OutboxEdit::Schedule { name, at, event } => {
                if name.is_empty() || name.len() > MAX_TIMER_NAME_BYTES {
                    return Err(format!("a timer's name has 1 to {MAX_TIMER_NAME_BYTES} bytes").into());
                }
                self.remove(|entry| entry.is_timer_named(&name));
                self.add(millis(at), Work::Timer { name, event }, 0, cause)
            }
            OutboxEdit::Cancel { name } => {
                self.remove(|entry| entry.is_timer_named(&name));
                Ok(())
            }
            OutboxEdit::Run { job, input } => self.add(self.now, Work::Job { name: job, input }, hops, cause),
            OutboxEdit::Finish(id) => {
                self.requested_by_event = 0;
                self.remove(|entry| entry.id == id);
                Ok(())
            }
            OutboxEdit::Park { id, reason } => {
                self.change(id, |entry| entry.parked = Some(reason));
                Ok(())
            }
            OutboxEdit::ParkFollowUp { id, follow_up, rejection, reason } => {
                self.change(id, |entry| {
                    let work = Work::FollowUp { event: follow_up, rejection };
                    (entry.parked, entry.work) = (Some(reason), work);
                });
                Ok(())
            }
            OutboxEdit::Postpone { id, millis, is_retry } => {
                let from = self.now + millis;
                self.change(id, |entry| {
                    entry.from = from;
                    entry.attempts += u32::from(is_retry);
                });
                Ok(())
            }
            OutboxEdit::Unpark(id) => {
                let now = self.now;
                self.change(id, |entry| (entry.parked, entry.from, entry.requested) = (None, now, now));
                Ok(())
            }
        }
    }

    fn add(&mut self, from: u64, work: Work, hops: u32, cause: Option<&Cause>) -> Result<(), BoxError> {
        self.requested += 1;
        self.requested_by_event += 1;
        if self.requested_by_event > MAX_PER_EVENT {
            return Err(format!(
                "an event requests at most {MAX_PER_EVENT} messages, timers and jobs: send one message to an instance that sends the others in several events"
            )
            .into());
        }
        let bytes = work.bytes();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(format!(
                "a message has at most {MAX_MESSAGE_BYTES} bytes of JSON, and this one has {bytes}: send an id, and let the target read the content"
            )
            .into());
        }
        let parked = (hops > MAX_HOPS).then(|| {
            format!("{MAX_HOPS} messages led to one another: the states may send to each other endlessly")
        });
        let mut entry = OutboxEntry {
            id: self.next_id(),
            requested: self.now,
            from,
            attempts: 0,
            hops,
            viewer: cause.map_or(self.author.viewer, Cause::viewer).into(),
            parked,
            work,
        };
        if !entry.is_timer() {
            entry.from += entry.lease().as_millis() as u64;
        }
        self.entries.push(Arc::new(entry));
        self.is_changed = true;
        Ok(())
    }

    /// Returns the id of the next entry. It depends on the version, which no other save has.
    fn next_id(&self) -> u128 {
        let Version { epoch, seq, nonce } = self.author.version;
        let mut hash = Sha256::new();
        hash.update(epoch.to_le_bytes());
        hash.update(seq.to_le_bytes());
        hash.update(nonce.to_le_bytes());
        hash.update((self.requested as u64).to_le_bytes());
        hash.update(self.author.key.as_str());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        u128::from_be_bytes(id)
    }

    fn remove(&mut self, is_removed: impl Fn(&OutboxEntry) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|entry| !is_removed(entry));
        self.is_changed |= self.entries.len() != before;
    }

    fn change(&mut self, id: u128, change: impl FnOnce(&mut OutboxEntry)) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            change(Arc::make_mut(entry));
            self.is_changed = true;
        }
    }
}

impl OutboxEntry {
    fn is_timer_named(&self, wanted: &str) -> bool {
        matches!(&self.work, Work::Timer { name, .. } if name == wanted)
    }
}

impl Work {
    /// The size of the inputs in bytes.
    fn bytes(&self) -> usize {
        let size = |event: &EncodedEvent| event.input.get().len();
        match self {
            Self::Message { event, then, or_else, .. } => {
                size(event) + then.as_ref().map_or(0, size) + or_else.as_ref().map_or(0, size)
            }
            Self::Timer { event, .. } | Self::FollowUp { event, .. } => size(event),
            Self::Job { input, .. } => input.get().len(),
        }
    }
}

impl StoredViewer {
    fn is_application(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the viewer. A session that cannot be parsed is left out.
    pub(in crate::registry) fn viewer(&self) -> Viewer {
        let session = self.session.as_ref().and_then(|text| u128::from_str_radix(text, 16).ok());
        let mut viewer = session.map_or_else(Viewer::application, |session| {
            Viewer::session(SessionId::from_bytes(session.to_be_bytes()))
        });
        if let Some(user) = &self.user {
            viewer = viewer.with_user(user);
        }
        self.roles.iter().fold(viewer, Viewer::with_role)
    }
}

impl From<&Viewer> for StoredViewer {
    fn from(viewer: &Viewer) -> Self {
        Self {
            session: viewer.session_id().map(ToString::to_string),
            user: viewer.user().map(str::to_owned),
            roles: viewer.roles().map(str::to_owned).collect(),
        }
    }
}

/// Returns whole milliseconds since the Unix epoch.
pub(in crate::registry) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the time of this many milliseconds since the Unix epoch.
pub(in crate::registry) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A number as 32 hexadecimal digits.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
