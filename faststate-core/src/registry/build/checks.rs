//! The checks of `RegistryBuilder::build`, which reports all mistakes at once.

use std::{any::type_name, collections::HashSet, time::Duration};

use crate::{
    ReactiveState,
    key::check_name,
    registry::{
        StateConfig,
        config::{MEMORY, Saved},
        instance::{queue::REPLY_GRACE, revision::Revision},
        request::Route,
    },
};

/// The parts of a declared state that are checked against other states and against the stores.
pub(super) struct Declaration<'a> {
    pub(super) name: &'static str,
    pub(super) config: &'a StateConfig,
    pub(super) routes: &'a [Route],
}

/// Checks a registry's deadline, and that there is a runtime.
pub(super) fn check_registry(deadline: Duration, mistakes: &mut Vec<String>) {
    if deadline <= REPLY_GRACE {
        mistakes.push(format!(
            "the deadline is {deadline:?}, but a turn reserves {REPLY_GRACE:?} for its reply, so every event would be refused: set a longer `deadline` (default: 2 s)"
        ));
    }
    if tokio::runtime::Handle::try_current().is_err() {
        mistakes.push("there is no tokio runtime: call `build` inside one".to_owned());
    }
}

/// Checks that the states of a registry fit together, and fit its stores and its broadcaster.
pub(super) fn check_states<'a>(
    states: impl IntoIterator<Item = Declaration<'a>>,
    has_store: impl Fn(&str) -> bool,
    has_broadcaster: bool,
    mistakes: &mut Vec<String>,
) {
    let (mut names, mut taken) = (HashSet::new(), HashSet::new());
    for Declaration { name, config, routes } in states {
        if !names.insert(name) {
            mistakes.push(format!("two states are named `{name}`: rename one"));
        }
        let store = config.store_name();
        if store != MEMORY && !has_store(store) {
            mistakes.push(format!(
                "the state `{name}` is saved in the store `{store}`, which does not exist: add it with `store` or `store_named`"
            ));
        }
        if has_broadcaster && config.store == Saved::Memory && !config.each_node {
            mistakes.push(format!(
                "the state `{name}` is not saved in a store that all nodes share: add `persist()`, add `node_local()` if each node has its own instances, or remove the broadcaster"
            ));
        }
        if config.each_node && config.store != Saved::Memory {
            mistakes.push(format!(
                "the state `{name}` is both local to a node and saved in a shared store: remove `node_local()` or `persist()`"
            ));
        }
        if config.every.is_some() && config.store == Saved::Memory {
            mistakes.push(format!(
                "the state `{name}` has `persist_every` but no store: add `persist()` or `persist_in`"
            ));
        }
        if config.sends_messages && config.every.is_some() {
            mistakes.push(format!(
                "the state `{name}` sends messages, but acknowledges events before it saves them, so a crash could lose a message: remove `persist_every` or `sends_messages()`"
            ));
        }
        if has_broadcaster && config.every.is_some() {
            mistakes.push(format!(
                "the state `{name}` acknowledges events before it saves them, so other nodes could miss them: remove `persist_every` or the broadcaster"
            ));
        }
        for Route { method, path, event, .. } in routes {
            if !taken.insert((method, path)) {
                mistakes.push(format!(
                    "two events have the path `{method} {path}`, one of them `{name}.{event}`: change one"
                ));
            }
        }
    }
}

/// Checks the names of a state, of its events and of its views, the paths of its events, its access policy and its
/// default value.
pub(super) fn check_state<S: ReactiveState>(
    config: &StateConfig,
    routes: &[Route],
    views: &[&str],
    mistakes: &mut Vec<String>,
) {
    let state = S::NAME;
    if check_name(state).is_err() {
        mistakes.push(format!(
            "`{state}` cannot name a state ({}): rename it to `[a-z][a-z0-9_]*` without `__`",
            type_name::<S>()
        ));
    }
    if config.scope.is_shared() && config.access.is_none() {
        mistakes.push(format!(
            "the state `{state}` is shared but has no access policy: add `.access(Access::public())` or another policy"
        ));
    }
    let events = routes.iter().map(|route| ("event", route.event));
    let views = views.iter().map(|view| ("view", *view));
    let mut seen = HashSet::new();
    for (kind, name) in events.chain(views) {
        if check_name(name).is_err() {
            mistakes.push(format!(
                "`{name}` cannot name the {kind} of `{state}`: rename it to `[a-z][a-z0-9_]*` without `__`"
            ));
        }
        if !seen.insert((kind, name)) {
            mistakes.push(format!("the state `{state}` has two {kind}s named `{name}`: rename one"));
        }
    }
    for route in routes {
        if route.path.contains("{id}") != config.scope.has_id() || !route.path.starts_with('/') {
            mistakes.push(format!(
                "the path `{}` of the event `{state}.{}` must begin with `/` and contain `{{id}}` for records and components, and only for them",
                route.path, route.event
            ));
        }
    }
    if let Err(error) = Revision::start(S::default()).and_then(|first| first.image().map(drop)) {
        mistakes.push(format!("the default value of `{state}` cannot be encoded ({error}): see the log"));
    }
}
