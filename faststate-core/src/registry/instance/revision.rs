//! One version of an instance's state, with its encodings.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    ReactiveState, Version,
    patch::{EncodedFields, EncodedState, INITIAL_CAPACITY},
    registry::{Error, messages::outbox::Outbox, panics::guard},
    store::{Precondition, Record},
};

/// The signal that holds the number of unfinished messages and jobs.
const PENDING_NAME: &str = "_pending";

/// A state at one version.
pub(in crate::registry) struct Revision<S> {
    pub(in crate::registry) state: Arc<S>,
    /// The state in the form in which it is, or would be, stored.
    pub(in crate::registry) encoded: EncodedState,
    pub(in crate::registry) version: Version,
    pub(in crate::registry) stored: bool,
    /// The `SCHEMA` of the stored record. A record that a newer version of the application wrote must not be overwritten.
    pub(in crate::registry) schema: u32,
    /// Whether the instance was deleted; `state` is then the last one.
    pub(in crate::registry) gone: bool,
    /// The unfinished messages, timers and jobs, if there are any.
    pub(in crate::registry) outbox: Option<Arc<Outbox>>,
    image: OnceLock<Result<EncodedFields, Arc<str>>>,
}

impl<S: ReactiveState> Revision<S> {
    /// Creates an unsaved state under a new epoch.
    pub(in crate::registry) fn start(state: S) -> Result<Self, Error> {
        let encoded = encode(&state, INITIAL_CAPACITY)?;
        Ok(Self::new(state, encoded, Version::start(), false))
    }

    /// Creates the successor of a deleted instance, whose followers keep the last state, under a new epoch.
    pub(in crate::registry) fn deleted(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            encoded: EncodedState::loaded(self.encoded.data.clone()),
            version: Version::start(),
            stored: false,
            schema: S::SCHEMA,
            gone: true,
            outbox: None,
            image: OnceLock::new(),
        }
    }

    /// Creates the state after a change, with the unfinished messages after it.
    pub(in crate::registry) fn next(
        state: S,
        encoded: EncodedState,
        version: Version,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self { outbox, ..Self::new(state, encoded, version, true) }
    }

    /// Creates a stored state whose record has this schema. For an older schema, `encoded` is the form in which the
    /// upgraded state would be stored.
    pub(in crate::registry) fn stored(
        state: S,
        encoded: EncodedState,
        version: Version,
        schema: u32,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self { schema, outbox, ..Self::new(state, encoded, version, true) }
    }

    /// Returns the same state at the same version, marked as stored.
    pub(in crate::registry) fn kept(current: &Arc<Self>) -> Arc<Self> {
        if current.stored {
            return Arc::clone(current);
        }
        Arc::new(Self {
            state: Arc::clone(&current.state),
            encoded: current.encoded.clone(),
            version: current.version,
            stored: true,
            schema: S::SCHEMA,
            gone: false,
            outbox: current.outbox.clone(),
            image: current.image.clone(),
        })
    }

    /// Whether the record has the form that this version of the application writes.
    pub(in crate::registry) const fn is_upgraded(&self) -> bool {
        self.schema >= S::SCHEMA
    }

    pub(in crate::registry) const fn is_read_only(&self) -> bool {
        self.schema > S::SCHEMA
    }

    fn new(state: S, encoded: EncodedState, version: Version, stored: bool) -> Self {
        Self {
            state: Arc::new(state),
            encoded,
            version,
            stored,
            schema: S::SCHEMA,
            gone: false,
            outbox: None,
            image: OnceLock::new(),
        }
    }

    /// Returns the signals, which are encoded once.
    pub(in crate::registry) fn image(&self) -> Result<&EncodedFields, Error> {
        let image =
            self.image.get_or_init(|| {
                guard("`signals` panicked", || self.encoded.signals::<S>(&self.state.signals()))
                    .map_err(|error| error.to_string())
                    .and_then(|image| image.map_err(|error| error.to_string()))
                    .map(|image| {
                        if S::SHOWS_PENDING { image.with_number(PENDING_NAME, self.pending()) } else { image }
                    })
                    .map_err(Arc::from)
            });
        image.as_ref().map_err(|error| Error::internal("the signals cannot be encoded", &(**error).into()))
    }

    pub(in crate::registry) fn expect(&self) -> Precondition {
        if self.stored { Precondition::Version(self.version) } else { Precondition::Absent }
    }

    /// Returns the record. It does not expire while there are unfinished messages (law 16).
    pub(in crate::registry) fn record(&self, ttl: Option<Duration>) -> Record {
        let data = self.encoded.data.clone();
        let Some(outbox) = &self.outbox else { return Record::new(S::SCHEMA, self.version, data, ttl) };
        let (pending, due) = outbox.stored();
        Record { pending, due, ..Record::new(S::SCHEMA, self.version, data, None) }
    }

    /// Returns the lifetime of the record: `ttl`, unless there are unfinished messages.
    pub(in crate::registry) fn lifetime(&self, ttl: Option<Duration>) -> Option<Duration> {
        ttl.filter(|_| self.outbox.is_none())
    }
}

impl<S> Revision<S> {
    /// Returns the number of messages and jobs that are not finished.
    fn pending(&self) -> u32 {
        self.outbox.as_ref().map_or(0, |outbox| outbox.waiting())
    }

    /// Whether this node has been at or past `version`, in the same epoch.
    pub(in crate::registry) fn has_seen(&self, version: Version) -> bool {
        self.stored && self.version.epoch == version.epoch && version.seq <= self.version.seq
    }
}

/// Encodes a state for the store. `bytes` is the expected size.
pub(in crate::registry) fn encode<S: ReactiveState>(state: &S, bytes: usize) -> Result<EncodedState, Error> {
    match guard("`serialize` panicked", || EncodedState::of(state, bytes))? {
        Ok(encoded) => Ok(encoded),
        Err(error) => Err(Error::internal("the state cannot be encoded", &error.into())),
    }
}
