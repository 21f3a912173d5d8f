//! Reports of wrong state, view and event names in application code.
//!
//! A browser gets the same 404 for an unknown target and for a forbidden one (law 8), so the mistake is named in the log.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::{Scope, key::check_name};

/// Maximum number of reported mistakes. Names also come from request paths, so the log must not grow with them.
const MAX_REPORTED: usize = 64;

/// The part of a state that a name refers to, in application code or in a request path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part<'a> {
    /// The state's signals.
    Signals,
    /// A view, by its name.
    View(&'a str),
    /// An event, by its name.
    Event(&'a str),
}

/// The reported mistakes; each is logged once.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Mutex<HashSet<String>>);

impl Mistakes {
    pub(super) fn report(&self, mistake: &str) {
        let is_new = {
            let mut reported = self.0.lock();
            reported.len() < MAX_REPORTED && reported.insert(mistake.to_owned())
        };
        if is_new {
            tracing::warn!("{mistake}");
        }
    }
}

/// Describes the use of a state that is not registered. Returns `None` for a name that no state can have.
pub(super) fn unregistered(state: &str) -> Option<String> {
    check_name(state).ok()?;
    Some(format!("the state `{state}` is not registered: add `.state::<..>(..)` to the registry's builder"))
}

/// Describes the mistake in the use of a registered state or of one of its parts, if there is one.
pub(super) fn in_name(
    state: &str,
    scope: Scope,
    has_id: bool,
    part: Part<'_>,
    is_listed: bool,
) -> Option<String> {
    let (subject, method) = match part {
        Part::Signals => (format!("the state `{state}`"), "follow"),
        Part::View(name) => (format!("the view `{name}` of the state `{state}`"), "view"),
        Part::Event(name) => {
            check_name(name).ok()?;
            (format!("the event `{name}` of the state `{state}`"), "event")
        }
    };
    match (part, scope.has_id(), has_id) {
        (Part::View(_) | Part::Event(_), ..) if !is_listed => {
            Some(format!("{subject} is not registered: add `.{method}(..)` where the state is registered"))
        }
        (Part::Event(_), true, false) => {
            Some(format!("{subject} was sent without an id: call `.on(id)` on its action"))
        }
        (Part::Event(_), false, true) => Some(format!(
            "{subject} was sent with an id, but the state has none: remove `.on(id)` from its action"
        )),
        (_, true, false) => {
            Some(format!("{subject} needs an id: call `{method}_id`, or `record` for a handle"))
        }
        (_, false, true) => Some(format!("{subject} has no ids: call `{method}`, or `global` for a handle")),
        (_, true, true) | (_, false, false) => None,
    }
}
