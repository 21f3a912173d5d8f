//! What every adapter shares.
