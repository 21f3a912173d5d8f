//! States of every shape, over the real engine and each adapter, in a real browser.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::duplicate_mod, reason = "each story runs on each adapter")]

mod adapter;
mod app;

/// Every story, served by `ADAPTER`.
macro_rules! told_over {
    ($($name:ident: $adapter:ident),+) => {$(
        #[path = "."]
        mod $name {
            const ADAPTER: crate::adapter::Adapter = crate::adapter::Adapter::$adapter;

            mod refusals;
            mod scopes;
            mod shapes;
            mod texts;
            mod walk;
        }
    )+};
}

told_over!(over_salvo: Salvo, over_axum: Axum);
