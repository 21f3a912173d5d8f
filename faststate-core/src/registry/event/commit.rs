//! The commit of a change: the new state in memory, and its frames for the followers.

use std::sync::Arc;

use crate::{
    Elements, ReactiveState,
    broadcast::Change,
    registry::{
        Error, ReplyView,
        event::after::Committed,
        instance::{
            Instance, Slot,
            revision::Revision,
            table::{AnyView, InstanceTable},
        },
        panics::guard,
    },
    store::{Precondition, Record},
    topics::{Content, ElementsSource, Encode, Topic},
    version::Version,
    wire::{Frame, SignalPath},
};

/// A change that is ready to be saved.
pub(super) struct PendingCommit<S> {
    pub(super) expect: Precondition,
    pub(super) next: Arc<Revision<S>>,
    /// `None` if the event changes nothing and only its receipt is new.
    pub(super) commit: Option<Commit<S>>,
    pub(super) record: Record,
    pub(super) committed: Committed<S>,
}

/// A change that is ready to be committed, encoded for every followed topic.
pub(super) struct Commit<S> {
    next: Arc<Revision<S>>,
    encoded: Vec<(Arc<Topic>, Frame, Arc<Content>)>,
}

impl<S> Commit<S> {
    /// Creates a commit without frames, after which every follower receives a snapshot.
    const fn unencoded(next: Arc<Revision<S>>) -> Self {
        Self { next, encoded: Vec::new() }
    }
}

/// Encodes a change for the topics that are followed now. This happens before the save, so that a panic in `signals` or
/// in a view fails the event and changes nothing (law 7).
pub(super) fn prepare_commit<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    before: &Arc<Revision<S>>,
    next: &Arc<Revision<S>>,
    broadcast: &[Elements],
) -> Result<Commit<S>, Error> {
    let followed = instance.topics.lock().open.clone();
    let encode = |(slot, topic): (Slot, Arc<Topic>)| {
        // After a deletion, the page may show either state, so a difference from one of them could be wrong.
        if before.gone || next.gone {
            return Ok(None);
        }
        let (frame, shown) = match slot {
            Slot::Signals => {
                // If the old state could not be encoded, followers receive a snapshot: an event may repair a state.
                let Ok(shown) = before.image() else {
                    return next.image().map(|_| None);
                };
                let frame = instance.nest.change(shown, next.image()?, next.version);
                (frame.with_elements(broadcast), ElementsSource::Snapshot)
            }
            Slot::View(at) => view_change(table, instance, at, &topic, before, next)?,
        };
        let content = topic_content(table, instance, slot, next, shown);
        Ok(Some((topic, frame, content)))
    };
    let encoded = followed.into_iter().filter_map(|topic| encode(topic).transpose());
    let encoded = encoded.collect::<Result<_, Error>>()?;
    Ok(Commit { next: Arc::clone(next), encoded })
}

/// Commits a state that comes from the store or another node. If it cannot be encoded, followers receive a snapshot.
pub(in crate::registry) fn adopt_stored<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    before: &Arc<Revision<S>>,
    next: &Arc<Revision<S>>,
) {
    // Elements that events on other nodes have sent with the change.
    let elements = instance.arrived.lock().due(next.version, true);
    let prepared = prepare_commit(table, instance, before, next, &elements);
    #[cfg(feature = "inspector")]
    crate::registry::observe::report::watch_store(table, instance, before, next);
    commit(table, instance, prepared.unwrap_or_else(|_| Commit::unencoded(Arc::clone(next))));
}

/// Replaces the state and appends the frames under one lock, then wakes the followers.
pub(super) fn commit<S: ReactiveState>(table: &InstanceTable<S>, instance: &Instance<S>, change: Commit<S>) {
    let Commit { next, mut encoded } = change;
    let topics = {
        let topics = instance.topics.lock();
        *instance.current.write() = Some(Arc::clone(&next));
        for (slot, topic) in &topics.open {
            match encoded.iter().position(|(encoded, ..)| Arc::ptr_eq(encoded, topic)) {
                Some(at) => {
                    let (topic, frame, content) = encoded.swap_remove(at);
                    table.meter.frames.add(1);
                    table.meter.frame_bytes.add(frame.len());
                    topic.append(frame, content);
                }
                // This topic was opened after the change was encoded, so its followers receive a snapshot.
                None => topic.reset(topic_content(table, instance, *slot, &next, ElementsSource::Snapshot)),
            }
        }
        topics.open.clone()
    };
    for (slot, topic) in &topics {
        tracing::debug!(?slot, followers = topic.followers(), version = %next.version, "frame");
        topic.wake();
    }
}

/// Sends elements without a change to the current followers of the signals on this node.
pub(in crate::registry) fn send_ephemeral<S: ReactiveState>(instance: &Instance<S>, elements: &[Elements]) {
    if elements.is_empty() {
        return;
    }
    let topics = instance.topics.lock();
    let signals = topics.open.iter().find(|(slot, _)| *slot == Slot::Signals);
    let Some((_, topic)) = signals.map(|(slot, topic)| (*slot, Arc::clone(topic))) else { return };
    drop(topics);
    topic.ephemeral(Frame::default().with_elements(elements));
    topic.wake();
}

/// Returns the signals for the reply, if the caller wants them because it does not follow them.
pub(super) fn reply_view<S: ReactiveState>(
    instance: &Instance<S>,
    current: &Revision<S>,
    is_wanted: bool,
) -> Result<Option<ReplyView>, Error> {
    is_wanted.then(|| Ok(ReplyView::new(instance.nest.clone(), current.image()?.clone()))).transpose()
}

/// Returns a topic's content at this state.
pub(in crate::registry) fn topic_content<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    slot: Slot,
    current: &Arc<Revision<S>>,
    shown: ElementsSource,
) -> Arc<Content> {
    let (state, version) = (Arc::clone(current), current.version);
    match slot {
        Slot::Signals => Content::new(version, shown, Signals { nest: instance.nest.clone(), state }),
        Slot::View(at) => {
            let view = Arc::clone(&table.views[at]);
            let nest = SignalPath::of(&instance.key, Some(view.name()));
            Content::new(version, shown, Viewed { nest, view, state })
        }
    }
}

/// Encodes a view's elements for a change. The frame is empty if the page already shows them.
fn view_change<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    at: usize,
    topic: &Topic,
    before: &Revision<S>,
    next: &Revision<S>,
) -> Result<(Frame, ElementsSource), Error> {
    let view = &table.views[at];
    let mut elements = guard("a view panicked", || view.update(&before.state, &next.state))?;
    let shown = topic.elements_source();
    let is_shown = match (&*elements, &shown) {
        ([], _) => return Ok((Frame::default(), shown)),
        ([only], ElementsSource::Whole(shown)) => **shown == *only,
        // Rendered at most once, because the topic keeps the elements from then on.
        ([only], ElementsSource::Snapshot) if only.is_whole() => {
            guard("a view panicked", || view.render(&before.state))? == *only
        }
        _ => false,
    };
    let frame = if is_shown {
        Frame::default()
    } else {
        SignalPath::of(&instance.key, Some(view.name())).elements(&elements, next.version)
    };
    let shown = match elements.pop() {
        Some(only) if elements.is_empty() && only.is_whole() => ElementsSource::Whole(Arc::new(only)),
        _ => ElementsSource::Pieces,
    };
    Ok((frame, shown))
}

/// Queues a change for the other nodes, unless each node has its own instances.
pub(in crate::registry) fn publish_change<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Instance<S>,
    from: Version,
    next: &Revision<S>,
) {
    if table.config.each_node {
        return;
    }
    table.shared.publish(|| Change {
        key: instance.key.clone(),
        from,
        to: next.version,
        schema: next.schema,
        // If the record has an older schema, this node has only the upgraded form, which another node must not adopt. If
        // it has unfinished messages, another node must load them.
        data: (next.stored && next.is_upgraded() && next.outbox.is_none()).then(|| next.encoded.data.clone()),
    });
}

/// The signals of a state.
struct Signals<S> {
    nest: SignalPath,
    state: Arc<Revision<S>>,
}

impl<S: ReactiveState> Encode for Signals<S> {
    fn snapshot(&self) -> Option<Frame> {
        if self.state.gone {
            return Some(self.nest.gone(self.state.version));
        }
        Some(self.nest.snapshot(self.state.image().ok()?, self.state.version))
    }

    fn merged(&self, frames: &mut dyn Iterator<Item = &Frame>) -> Option<Frame> {
        self.nest.merge_frames(frames, self.state.image().ok()?, self.state.version)
    }
}

/// A view of a state.
struct Viewed<S> {
    nest: SignalPath,
    view: Arc<dyn AnyView<S>>,
    state: Arc<Revision<S>>,
}

impl<S: ReactiveState> Encode for Viewed<S> {
    fn snapshot(&self) -> Option<Frame> {
        let (state, version) = (&self.state.state, self.state.version);
        let render = || if self.state.gone { self.view.gone(state) } else { Some(self.view.render(state)) };
        Some(match guard("a view panicked", render).ok()? {
            Some(elements) => self.nest.elements(&[elements], version),
            None => self.nest.gone(version),
        })
    }

    /// Frames of elements cannot be merged, because each may append to the ones before.
    fn merged(&self, _: &mut dyn Iterator<Item = &Frame>) -> Option<Frame> {
        None
    }
}
