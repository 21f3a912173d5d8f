//! The stores against real servers: the public suite, and what each promises beyond it.

mod faults;
mod kill;
mod ledger;
mod mysql;
mod open;
mod postgres;
mod sqlite;
