//! The laws as callable suites.
