//! Checks of the promises of [`Store`], in the numbering of its documentation.
//!
//! The checks take two handles of one store, as two nodes would hold them. Pass the same handle twice if there can be only
//! one. Each run uses new keys, so the store may contain other records and those of earlier runs. Promise 4 (an
//! acknowledged save survives `kill -9`) needs a process to kill and belongs to each store's own tests.

mod keys;
mod lifetime;
mod messages;
mod receipts;
mod refusals;
mod saving;
mod schedule;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{
    EventId, Key, Scope, Store, Version,
    store::{Precondition, Receipt, Record, SaveOutcome},
};

pub use self::{
    keys::distinct_keys_are_distinct_records,
    lifetime::{
        expired_record_is_gone, one_save_succeeds_at_expiry, receipt_is_kept_for_ten_minutes,
        sweep_removes_only_expired_records, touch_sets_the_remaining_lifetime,
    },
    messages::{
        due_time_is_saved_with_unchanged_record, messages_are_loaded_unchanged,
        oversized_messages_are_refused, record_and_messages_are_saved_together,
        unsaved_messages_leave_no_trace,
    },
    receipts::{
        dropped_save_is_atomic, receipt_is_saved_with_unchanged_record, receipt_outlives_its_record,
        record_and_receipt_are_saved_together, save_with_known_receipt_is_duplicate,
    },
    refusals::{
        accepted_message_cannot_be_refused, message_receipt_is_kept_until_release,
        one_of_save_and_refusal_succeeds, refusal_is_saved_with_its_answer, released_receipt_is_a_duplicate,
    },
    saving::{
        concurrent_increments_are_all_counted, delete_removes_only_the_named_version,
        one_of_many_concurrent_saves_succeeds, oversized_record_is_refused,
        save_with_other_precondition_conflicts, saved_record_is_loaded_unchanged,
    },
    schedule::{
        due_records_are_listed_in_order, record_is_due_at_its_time, removed_record_is_not_due,
        unfinished_messages_are_counted,
    },
};
use super::Failure;

/// Runs every check that applies to any store. Takes several seconds.
///
/// [`receipt_is_kept_for_ten_minutes`] and [`message_receipt_is_kept_until_release`] are not included, because minutes and
/// days must pass by the store's clock.
///
/// # Errors
/// Returns the first promise that is broken.
pub async fn all(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    a.ping().await?;
    b.ping().await?;
    saved_record_is_loaded_unchanged(a, b).await?;
    save_with_other_precondition_conflicts(a, b).await?;
    delete_removes_only_the_named_version(a, b).await?;
    one_of_many_concurrent_saves_succeeds(a, b).await?;
    concurrent_increments_are_all_counted(a, b).await?;
    save_with_known_receipt_is_duplicate(a, b).await?;
    receipt_is_saved_with_unchanged_record(a, b).await?;
    oversized_record_is_refused(a, b).await?;
    record_and_receipt_are_saved_together(a, b).await?;
    receipt_outlives_its_record(a, b).await?;
    dropped_save_is_atomic(a, b).await?;
    distinct_keys_are_distinct_records(a, b).await?;
    expired_record_is_gone(a, b).await?;
    one_save_succeeds_at_expiry(a, b).await?;
    touch_sets_the_remaining_lifetime(a, b).await?;
    sweep_removes_only_expired_records(a, b).await?;
    messages_are_loaded_unchanged(a, b).await?;
    due_time_is_saved_with_unchanged_record(a, b).await?;
    unsaved_messages_leave_no_trace(a, b).await?;
    record_and_messages_are_saved_together(a, b).await?;
    oversized_messages_are_refused(a, b).await?;
    refusal_is_saved_with_its_answer(a, b).await?;
    accepted_message_cannot_be_refused(a, b).await?;
    one_of_save_and_refusal_succeeds(a, b).await?;
    released_receipt_is_a_duplicate(a, b).await?;
    due_records_are_listed_in_order(a, b).await?;
    record_is_due_at_its_time(a, b).await?;
    removed_record_is_not_due(a, b).await?;
    unfinished_messages_are_counted(a, b).await
}

/// Returns an unused state name.
fn new_state() -> String {
    format!("conformance_{:016x}", rand::random::<u64>())
}

/// Returns an unused key.
fn new_key() -> Result<Key, Failure> {
    key(&new_state(), Scope::Global, None, None)
}

fn key(state: &str, scope: Scope, owner: Option<&str>, id: Option<&str>) -> Result<Key, Failure> {
    Key::new(state, scope, owner, id).map_err(|error| Failure::error("the suite's keys are valid", &error))
}

/// Returns an unused receipt of a caller.
fn new_receipt(key: &Key) -> Receipt {
    Receipt::new(key, "conformance", &EventId::random())
}

fn record(version: Version, data: impl Into<Bytes>) -> Record {
    Record::new(1, version, data, None)
}

/// Saves a first record without a receipt.
async fn first(store: &Arc<dyn Store>, key: &Key, ttl: Option<Duration>) -> Result<Record, Failure> {
    let record = Record { ttl, ..record(Version::start(), r#"{"first":true}"#) };
    saved(
        store.save(key, &record, Precondition::Absent, None).await?,
        "a save that expects no record succeeds if there is none",
    )?;
    Ok(record)
}

fn saved(saving: SaveOutcome, promise: &str) -> Result<(), Failure> {
    if saving == SaveOutcome::Saved {
        Ok(())
    } else {
        Err(Failure::new(promise, format!("the outcome was {saving:?}")))
    }
}
