//! Several nodes over one server: the broadcasters, and the application on them.
#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod broadcasters;
