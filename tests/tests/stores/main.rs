//! Every store against its real server: the public suite, and what each promises beyond it.

mod faults;
mod kill;
mod ledger;
mod mysql;
mod open;
mod postgres;
mod redis;
mod sqlite;
