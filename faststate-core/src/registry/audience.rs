//! Telling a state who follows it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{arriving::Arriving, instance::Instance, shared::guard, states::States};
use crate::{ReactiveState, Viewer};

/// How long followers may come and go before the state is told.
const DELAY: Duration = Duration::from_millis(200);

/// Who follows an instance on this node, for the event of
/// [`StateBuilder::audience`](super::StateBuilder::audience).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audience {
    /// The users who follow it with some stream, sorted, each once.
    pub users: Vec<String>,
    /// How many streams belong to nobody who is signed in.
    pub guests: usize,
}

/// Whose each stream is that follows an instance, and what its state was told of that.
#[derive(Default)]
pub(super) struct Listeners {
    users: HashMap<u64, Option<Box<str>>>,
    due: bool,
    told: Option<Audience>,
}

impl Listeners {
    pub(super) fn join(&mut self, stream: u64, user: Option<&str>) {
        self.users.insert(stream, user.map(Box::from));
    }

    pub(super) fn leave(&mut self, stream: u64) {
        self.users.remove(&stream);
    }

    /// What the state is to be told now, if that is news.
    fn news(&mut self) -> Option<Audience> {
        self.due = false;
        let users: BTreeSet<&str> = self.users.values().flatten().map(|user| &**user).collect();
        let users = users.into_iter().map(str::to_owned).collect();
        let audience = Audience { users, guests: self.users.values().filter(|user| user.is_none()).count() };
        (self.told.replace(audience.clone()).as_ref() != Some(&audience)).then_some(audience)
    }
}

impl<S: ReactiveState> States<S> {
    /// Tells the state who follows it, soon and once for all who come and go until then.
    pub(super) fn tell_audience(&self, instance: &Arc<Instance<S>>) {
        // A follower may be dropped anywhere, also after the runtime.
        if self.audience.is_none() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Ok(me) = self.me() else { return };
        if std::mem::replace(&mut instance.topics.lock().listeners.due, true) {
            return;
        }
        let instance = Arc::clone(instance);
        self.shared.detach(async move {
            tokio::time::sleep(DELAY).await;
            let Some(audience) = instance.topics.lock().listeners.news() else { return };
            let Some(tell) = &me.audience else { return };
            let Ok(attempt) = guard("`audience` panicked", || tell(audience)) else {
                instance.topics.lock().listeners.told = None;
                return;
            };
            let arriving =
                Arriving { attempt, fields: &[], viewer: Viewer::application(), id: None, wants_view: false };
            if let Err(error) = me.send(&instance.key, arriving).await {
                tracing::warn!(key = ?instance.key, %error, "the state was not told who follows it");
                instance.topics.lock().listeners.told = None;
            }
        });
    }
}
