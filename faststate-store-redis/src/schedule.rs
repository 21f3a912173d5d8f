//! The records that are due or have unfinished messages, over all buckets.

use std::time::Duration;

use bb8_redis::redis::{FromRedisValue, Value};
use faststate_core::store::{DueKeys, PendingSummary, StoreError};
use futures::future::{join_all, try_join_all};

use crate::{
    command::StoreCommand,
    error::RedisStoreError,
    keys::{IndexNames, Prefix},
    router::CallRouter,
    value::time_of,
};

/// Redis keys of records, each with its score in an index.
type Entries = Vec<(String, u64)>;

/// Lists the records that are due. The servers of a cluster have different clocks; each record is due by the clock of its
/// server, and the latest time is returned.
///
/// # Errors
/// Fails if no server has records that are due, and one does not answer.
pub(crate) async fn due(router: &CallRouter, prefix: &Prefix, limit: usize) -> Result<DueKeys, StoreError> {
    let calls = prefix.all_indexes().iter().map(|indexes| {
        let indexes = indexes.clone();
        router.run(StoreCommand::Due { indexes, limit })
    });
    let (mut now, mut entries, mut failure) = (0, Entries::new(), None);
    for answer in join_all(calls).await {
        match answer.map_err(StoreError::from).and_then(decode::<(u64, Entries)>) {
            Ok((time, found)) => {
                now = now.max(time);
                entries.extend(found);
            }
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure.filter(|_| entries.is_empty()) {
        return Err(error);
    }
    Ok(DueKeys { now: time_of(now), keys: first_keys(prefix, entries, limit) })
}

/// Counts the unfinished messages.
pub(crate) async fn pending(
    router: &CallRouter,
    prefix: &Prefix,
    limit: usize,
) -> Result<PendingSummary, StoreError> {
    let buckets = prefix.all_indexes().iter().map(|indexes| bucket_pending(router, indexes, limit));
    let mut all = BucketPending::default();
    for bucket in try_join_all(buckets).await? {
        all.now = all.now.max(bucket.now);
        all.waiting += bucket.waiting;
        all.parked += bucket.parked;
        all.oldest = all.oldest.into_iter().chain(bucket.oldest).min();
        all.entries.extend(bucket.entries);
    }
    Ok(PendingSummary {
        waiting: all.waiting,
        parked: all.parked,
        age: all.oldest.map(|oldest| Duration::from_millis(all.now.saturating_sub(oldest))),
        keys: first_keys(prefix, all.entries, limit),
    })
}

/// The unfinished messages of a bucket.
#[derive(Default)]
struct BucketPending {
    now: u64,
    waiting: u64,
    parked: u64,
    oldest: Option<u64>,
    entries: Entries,
}

async fn bucket_pending(
    router: &CallRouter,
    indexes: &IndexNames,
    limit: usize,
) -> Result<BucketPending, StoreError> {
    let mut bucket = BucketPending::default();
    let mut start = 0;
    loop {
        let left = limit - bucket.entries.len();
        let page = StoreCommand::Pending { indexes: indexes.clone(), start, limit: left };
        let (now, next, waiting, parked, oldest, entries) =
            decode::<(u64, i64, u64, u64, Option<u64>, Entries)>(router.run(page).await?)?;
        bucket.now = now;
        bucket.waiting += waiting;
        bucket.parked += parked;
        bucket.oldest = bucket.oldest.or(oldest);
        bucket.entries.extend(entries);
        let Ok(next) = u64::try_from(next) else { return Ok(bucket) };
        start = next;
    }
}

fn decode<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    Ok(T::from_redis_value(answer).map_err(RedisStoreError::Answer)?)
}

/// Returns the keys of at most `limit` records, those with the lowest scores first.
fn first_keys(prefix: &Prefix, mut entries: Entries, limit: usize) -> Vec<faststate_core::Key> {
    entries.sort_by_key(|(_, score)| *score);
    entries.iter().filter_map(|(record, _)| prefix.key(record)).take(limit).collect()
}
