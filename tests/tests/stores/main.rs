//! Every store against its real server.

mod redis;
