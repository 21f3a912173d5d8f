//! Joining and leaving the topics of an instance.

use std::sync::{Arc, Weak};

use crate::{
    Key, ReactiveState, Version,
    registry::{
        Error,
        event::commit::topic_content,
        followers::notify::{count_followers, linger},
        instance::{Instance, Slot, queue::Command, table::InstanceTable},
        load::read::{Present, read_current, reload_with},
    },
    topics::{ElementsSource, Follower, Topic},
};

/// Adds a follower to a topic of an instance.
///
/// The follower resumes at `cursor` if the topic still has its frames; otherwise it receives a snapshot. `stream`
/// identifies the stream across topics, and `user` is its signed-in user.
pub(in crate::registry) async fn join_topic<S: ReactiveState>(
    table: &InstanceTable<S>,
    key: &Key,
    slot: Slot,
    cursor: Option<Version>,
    stream: u64,
    user: Option<&str>,
) -> Result<Follower, Error> {
    let deadline = table.deadline();
    let Present { mut instance, current, .. } = read_current(table, key, deadline).await?;
    // A cursor that is not in this node's past may come from a node that is ahead. So may the content of a page
    // that sends no cursor.
    let is_past = |cursor: Version| cursor == current.version || cursor.is_before(current.version);
    let mut behind = cursor.map_or(table.nodes().is_some(), |cursor| !is_past(cursor));
    let mut interest = None;
    let follower = loop {
        if let Some(nodes) = table.nodes()
            && interest.is_none()
            && instance.topics.lock().interest.is_none()
        {
            interest = Some(nodes.join(key, deadline).await?);
            // This node did not receive the changes between its load and this interest.
            behind = true;
        }
        if std::mem::take(&mut behind) {
            // The state in memory may be older than what the page shows.
            let ahead = cursor.filter(|cursor| cursor.epoch == current.version.epoch && !is_past(*cursor));
            let look = ahead.map_or_else(Command::refresh, Command::Compare);
            (instance, _) = reload_with(table, instance, look, deadline).await?;
        }
        let mut topics = instance.topics.lock();
        if topics.interest.is_none() {
            topics.interest = interest.take();
        }
        // The last follower may have left in the meantime, which ends the node's interest.
        if topics.interest.is_none() && table.nodes().is_some() {
            continue;
        }
        let open = topics.open.iter().find(|(open, _)| *open == slot).map(|(_, topic)| Arc::clone(topic));
        let topic = match open {
            Some(topic) => topic,
            None => {
                let topic = open_topic(table, &instance, slot)?;
                topics.open.push((slot, Arc::clone(&topic)));
                topic
            }
        };
        *topics.streams.entry(stream).or_default() += 1;
        if table.audience.is_some() {
            topics.listeners.get_or_insert_default().join(stream, user);
        }
        break Follower::join(&topic, cursor, stream);
    };
    count_followers(table, &instance);
    Ok(follower)
}

/// Creates a topic. The caller holds the lock of the instance's topics, so that no commit is missed.
fn open_topic<S: ReactiveState>(
    table: &InstanceTable<S>,
    instance: &Arc<Instance<S>>,
    slot: Slot,
) -> Result<Arc<Topic>, Error> {
    let current = instance.current.read().clone().ok_or(Error::Unknown)?;
    let (weak_table, weak_instance) = (Weak::clone(&table.me), Arc::downgrade(instance));
    let left = move |stream| {
        if let (Some(table), Some(instance)) = (weak_table.upgrade(), weak_instance.upgrade()) {
            leave_topic(&table, &instance, stream);
        }
    };
    let content = topic_content(table, instance, slot, &current, ElementsSource::Snapshot);
    let topic = Topic::new(content, table.config.log_bytes, table.config.pace, left);
    topic.mark(instance.is_stale());
    Ok(topic)
}

/// Removes a follower. A topic is dropped with its last follower, and the node's interest with its last topic.
fn leave_topic<S: ReactiveState>(table: &InstanceTable<S>, instance: &Arc<Instance<S>>, stream: u64) {
    let (gone, interest) = {
        let mut topics = instance.topics.lock();
        if let Some(count) = topics.streams.get_mut(&stream) {
            *count -= 1;
            if *count == 0 {
                topics.streams.remove(&stream);
                topics.listeners.iter_mut().for_each(|listeners| listeners.leave(stream));
            }
        }
        let gone: Vec<_> = topics.open.extract_if(.., |(_, topic)| topic.followers() == 0).collect();
        let interest = if topics.open.is_empty() { topics.interest.take() } else { None };
        (gone, interest)
    };
    // Dropped outside the lock, because dropping an interest calls the broadcaster.
    drop(gone);
    drop(interest.and_then(|interest| linger(table, instance, interest)));
    count_followers(table, instance);
}
