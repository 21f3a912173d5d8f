//! The promises of [`Store`], as its documentation numbers them.
//!
//! The checks take two handles of one store, as two nodes hold them; give the same one twice where
//! there can be only one. Keys are new at each run, so that a store may hold other things, or what an
//! earlier run left. Promise 4 (what is acknowledged survives `kill -9`) needs a process to kill: it is
//! for each store's own tests.

mod keys;
mod lifetime;
mod receipts;
mod saving;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{
    Key, Scope, Store, Version,
    store::{Precondition, Record, SaveOutcome},
};

pub use self::{
    keys::different_keys_are_different_records,
    lifetime::{
        a_record_at_its_expiry_has_one_winner, a_sweep_takes_only_what_has_expired,
        an_expired_record_is_gone, receipts_are_kept_ten_minutes, touch_extends_a_life,
    },
    receipts::{
        a_dropped_save_is_whole_or_nothing, a_receipt_is_saved_without_a_change,
        a_receipt_outlives_its_record, a_repeat_is_a_duplicate, record_and_receipt_are_one,
    },
    saving::{
        a_delete_takes_the_version_it_names, a_record_that_is_too_large_is_refused,
        a_save_takes_what_it_expects, concurrent_increments_all_count, of_many_saves_one_succeeds,
        what_is_saved_is_loaded,
    },
};
use super::Failure;

/// Every promise that holds for a store of any kind; some seconds long.
///
/// Not in it: [`receipts_are_kept_ten_minutes`], for which somebody must let ten minutes pass.
///
/// # Errors
/// The first promise that is broken.
pub async fn all(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), Failure> {
    a.ping().await?;
    b.ping().await?;
    what_is_saved_is_loaded(a, b).await?;
    a_save_takes_what_it_expects(a, b).await?;
    a_delete_takes_the_version_it_names(a, b).await?;
    of_many_saves_one_succeeds(a, b).await?;
    concurrent_increments_all_count(a, b).await?;
    a_repeat_is_a_duplicate(a, b).await?;
    a_receipt_is_saved_without_a_change(a, b).await?;
    a_record_that_is_too_large_is_refused(a, b).await?;
    record_and_receipt_are_one(a, b).await?;
    a_receipt_outlives_its_record(a, b).await?;
    a_dropped_save_is_whole_or_nothing(a, b).await?;
    different_keys_are_different_records(a, b).await?;
    an_expired_record_is_gone(a, b).await?;
    a_record_at_its_expiry_has_one_winner(a, b).await?;
    touch_extends_a_life(a, b).await?;
    a_sweep_takes_only_what_has_expired(a, b).await
}

/// The name of a state that nobody has used before.
fn new_state() -> String {
    format!("conformance_{:016x}", rand::random::<u64>())
}

/// A key that nobody has used before.
fn new_key() -> Result<Key, Failure> {
    key(&new_state(), Scope::Global, None, None)
}

fn key(state: &str, scope: Scope, owner: Option<&str>, id: Option<&str>) -> Result<Key, Failure> {
    Key::new(state, scope, owner, id).map_err(|error| Failure::error("the suite makes legal keys", &error))
}

fn record(version: Version, data: impl Into<Bytes>) -> Record {
    Record { schema: 1, version, data: data.into(), ttl: None }
}

/// A first record without a receipt.
async fn first(store: &Arc<dyn Store>, key: &Key, ttl: Option<Duration>) -> Result<Record, Failure> {
    let record = Record { ttl, ..record(Version::start(), r#"{"first":true}"#) };
    saved(
        store.save(key, &record, Precondition::Absent, None).await?,
        "a save that expects no record finds none",
    )?;
    Ok(record)
}

fn saved(saving: SaveOutcome, promise: &str) -> Result<(), Failure> {
    if saving == SaveOutcome::Saved {
        Ok(())
    } else {
        Err(Failure::new(promise, format!("the answer was {saving:?}")))
    }
}
