//! Type-erased views.

use crate::{Elements, View};

/// A [`View`] as a trait object; see there for the methods.
pub(super) trait AnyView<S>: Send + Sync {
    fn name(&self) -> &'static str;
    fn render(&self, state: &S) -> Elements;
    fn update(&self, before: &S, after: &S) -> Vec<Elements>;
    fn gone(&self, last: &S) -> Option<Elements>;
}

impl<V: View> AnyView<V::State> for V {
    fn name(&self) -> &'static str {
        V::NAME
    }

    fn render(&self, state: &V::State) -> Elements {
        View::render(self, state)
    }

    fn update(&self, before: &V::State, after: &V::State) -> Vec<Elements> {
        View::update(self, before, after)
    }

    fn gone(&self, last: &V::State) -> Option<Elements> {
        View::gone(self, last)
    }
}
