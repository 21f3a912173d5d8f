//! Who follows an instance.

use std::collections::BTreeSet;

use super::instance::Stream;

/// Who follows an instance on this node, for the event of
/// [`presence_of`](super::StateBuilder::presence_of).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Present {
    /// How many streams: a window is one.
    pub streams: usize,
    /// The users that some of them belong to, sorted, each once.
    pub users: Vec<String>,
    /// How many streams belong to nobody who is signed in.
    pub guests: usize,
}

impl Present {
    /// Those of these streams; who they are only where that is asked for.
    pub(super) fn of<'a>(streams: impl ExactSizeIterator<Item = &'a Stream>, who: bool) -> Self {
        let count = streams.len();
        if !who {
            return Self { streams: count, ..Self::default() };
        }
        let (mut users, mut guests) = (BTreeSet::new(), 0);
        for stream in streams {
            match &stream.user {
                Some(user) => drop(users.insert(&**user)),
                None => guests += 1,
            }
        }
        Self { streams: count, users: users.into_iter().map(str::to_owned).collect(), guests }
    }
}
