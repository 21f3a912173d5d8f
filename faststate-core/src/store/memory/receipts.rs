//! The receipts of a store in memory. There is one for each event of the last ten minutes, so each takes little memory.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher as _,
    time::Duration,
};

use hashbrown::HashTable;

/// A set of receipts, each with the end of its lifetime.
///
/// A lookup reads one place in memory, and a second one only if the receipt is probably in the set: the table contains
/// no digests, but the numbers of the receipts in the queue.
#[derive(Default)]
pub(super) struct ReceiptTable {
    /// The receipts in the order in which they expire.
    queue: VecDeque<KeptReceipt>,
    /// The number of the first receipt in the queue. The others have consecutive numbers, which wrap around to 0.
    first: u32,
    /// The numbers of the receipts, by the hashes of their digests.
    numbers: HashTable<u32>,
    hasher: RandomState,
}

struct KeptReceipt {
    digest: [u8; 16],
    end: Second,
}

/// A receipt's digest, and its hash in this table.
#[derive(Clone, Copy)]
pub(super) struct HashedDigest<'a> {
    digest: &'a [u8; 16],
    hash: u64,
}

/// A time in whole seconds since the store was created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(pub(super) u32);

impl Second {
    /// Returns the first second that begins after `time` has passed completely.
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(1 + u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1)))
    }
}

impl ReceiptTable {
    /// Hashes a digest once for several calls.
    pub(super) fn hashed<'a>(&self, digest: &'a [u8; 16]) -> HashedDigest<'a> {
        HashedDigest { digest, hash: hash(&self.hasher, digest) }
    }

    /// Returns whether the set contains this receipt and it has not expired.
    pub(super) fn contains(&self, receipt: HashedDigest<'_>, now: Second) -> bool {
        let kept = |number: u32| &self.queue[index(number, self.first)];
        let found = self.numbers.find(receipt.hash, |number| kept(*number).digest == *receipt.digest);
        found.is_some_and(|number| kept(*number).end > now)
    }

    /// Adds a receipt that expires at `end`. No receipt in the set may expire after that.
    pub(super) fn insert(&mut self, receipt: HashedDigest<'_>, end: Second) {
        let Self { queue, first, numbers, hasher } = self;
        #[expect(clippy::cast_possible_truncation, reason = "the numbers wrap around to 0")]
        let number = first.wrapping_add(queue.len() as u32);
        queue.push_back(KeptReceipt { digest: *receipt.digest, end });
        let digest_of = |number: &u32| &queue[index(*number, *first)].digest;
        let same = |number: &u32| digest_of(number) == receipt.digest;
        numbers.entry(receipt.hash, same, |number| hash(hasher, digest_of(number))).insert(number);
    }

    /// Removes at most `limit` expired receipts; returns their number.
    pub(super) fn remove_expired(&mut self, now: Second, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit
            && let Some(KeptReceipt { digest, .. }) = self.queue.pop_front_if(|kept| kept.end <= now)
        {
            // If the same receipt was added again after it had expired, the table contains the later number.
            let first = self.first;
            if let Ok(found) = self.numbers.find_entry(hash(&self.hasher, &digest), |number| *number == first)
            {
                found.remove();
            }
            self.first = first.wrapping_add(1);
            removed += 1;
        }
        removed
    }
}

/// Hashes a digest with a secret key, so that clients, which choose event ids, cannot choose the slot in the table.
fn hash(hasher: &RandomState, digest: &[u8; 16]) -> u64 {
    hasher.hash_one(u128::from_ne_bytes(*digest))
}

/// Returns the index in the queue of the receipt with this number.
const fn index(number: u32, first: u32) -> usize {
    number.wrapping_sub(first) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(receipt: u32) -> [u8; 16] {
        u128::from(receipt).to_le_bytes()
    }

    fn insert(receipts: &mut ReceiptTable, receipt: u32, end: u32) {
        receipts.insert(receipts.hashed(&digest(receipt)), Second(end));
    }

    fn contains(receipts: &ReceiptTable, receipt: u32, now: u32) -> bool {
        receipts.contains(receipts.hashed(&digest(receipt)), Second(now))
    }

    #[test]
    fn receipt_is_kept_until_its_end_when_numbers_wrap_around() {
        let mut receipts = ReceiptTable { first: u32::MAX - 500, ..ReceiptTable::default() };
        for at in 0..2_000_u32 {
            insert(&mut receipts, at, at + 1_000);
            receipts.remove_expired(Second(at), 4);
            for earlier in 0..=at {
                assert_eq!(contains(&receipts, earlier, at), earlier + 1_000 > at, "{earlier} at {at}");
            }
        }
        assert_eq!((receipts.queue.len(), receipts.numbers.len()), (1_000, 1_000));
    }

    #[test]
    fn receipt_added_again_outlives_its_first_end() {
        let mut receipts = ReceiptTable::default();
        insert(&mut receipts, 1, 10);
        assert!(contains(&receipts, 1, 9) && !contains(&receipts, 1, 10));
        insert(&mut receipts, 1, 20);
        assert_eq!(receipts.remove_expired(Second(10), 4), 1);
        assert!(contains(&receipts, 1, 19));
        assert_eq!(receipts.remove_expired(Second(20), 4), 1);
        assert!(!contains(&receipts, 1, 19));
        assert!(receipts.numbers.is_empty() && receipts.queue.is_empty());
    }
}
