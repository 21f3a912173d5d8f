//! Every store against its real server.

mod killed;
mod ledger;
mod redis;
