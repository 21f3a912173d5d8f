//! Tests of the laws (docs/laws.md) that one process can break: they use the engine through `Registry` and `Handle`, without
//! sockets. The name of a law's test begins with the law's number.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod arrivals;
mod audience;
mod bank;
mod board;
mod connection;
mod office;
mod purse;
mod tab;

mod edges;
mod ephemeral;
mod hot_key;
mod law_02_no_lost_update;
mod law_03_applied_once;
mod law_03_unchanged;
mod law_03_unknown_outcomes;
mod law_04_gap_free;
mod law_06_bounded;
mod law_07_copy_then_commit;
mod law_08_access;
mod law_10_versions;
mod law_13_call_budget;
mod law_13_dead_store;
mod law_14_no_messages;
mod law_14_quiet;
mod law_15_drained;
mod law_16_crash_points;
mod law_16_jobs;
mod law_16_messages;
mod law_16_outcomes;
mod law_16_simulation;
mod law_16_timers;
mod nodes;
mod order;
mod presence;
mod read_only;
mod reload;
mod rounds;
mod schemas;
mod simulation;
mod stores;
mod sweeping;
