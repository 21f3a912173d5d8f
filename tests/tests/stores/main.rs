//! The stores against real servers: the public suite, and what each promises beyond it.

mod sqlite;
