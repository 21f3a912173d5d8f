//! The receipts of a store in memory: one for each event of ten minutes, so they are small.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher as _,
    time::Duration,
};

use hashbrown::HashTable;

/// Receipts until they end. A look at the table is a look at one place in memory, and at a second one only
/// if the receipt is probably there.
#[derive(Default)]
pub(super) struct Receipts {
    /// In the order in which they end.
    kept: VecDeque<Kept>,
    /// The number of the first that is kept. Each receipt has the number after the one before it, and 0 comes
    /// after the greatest.
    first: u32,
    /// Their numbers, by the hashes of their digests.
    numbers: HashTable<u32>,
    hasher: RandomState,
}

struct Kept {
    digest: [u8; 16],
    end: Second,
}

/// A receipt's digest and its hash here.
#[derive(Clone, Copy)]
pub(super) struct Hashed<'a> {
    digest: &'a [u8; 16],
    hash: u64,
}

/// Whole seconds since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Second(pub(super) u32);

impl Second {
    /// The first second that begins when all of `time` has passed.
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(1 + u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1)))
    }
}

impl Receipts {
    /// The digest with its hash, which is asked for more than once.
    pub(super) fn hashed<'a>(&self, digest: &'a [u8; 16]) -> Hashed<'a> {
        Hashed { digest, hash: hash(&self.hasher, digest) }
    }

    /// Whether this receipt is kept and has not ended.
    pub(super) fn has(&self, receipt: Hashed<'_>, now: Second) -> bool {
        let kept = |number: u32| &self.kept[place(number, self.first)];
        let found = self.numbers.find(receipt.hash, |number| kept(*number).digest == *receipt.digest);
        found.is_some_and(|number| kept(*number).end > now)
    }

    /// Keeps a receipt until then, which is no sooner than any other ends.
    pub(super) fn keep(&mut self, receipt: Hashed<'_>, end: Second) {
        let Self { kept, first, numbers, hasher } = self;
        #[expect(clippy::cast_possible_truncation, reason = "0 comes after the greatest number")]
        let number = first.wrapping_add(kept.len() as u32);
        kept.push_back(Kept { digest: *receipt.digest, end });
        let digest_of = |number: &u32| &kept[place(*number, *first)].digest;
        let same = |number: &u32| digest_of(number) == receipt.digest;
        numbers.entry(receipt.hash, same, |number| hash(hasher, digest_of(number))).insert(number);
    }

    /// Drops at most so many that have ended; says how many.
    pub(super) fn drop_ended(&mut self, now: Second, limit: usize) -> usize {
        let mut dropped = 0;
        while dropped < limit
            && let Some(Kept { digest, .. }) = self.kept.pop_front_if(|kept| kept.end <= now)
        {
            // Unless the same event was applied again after that: then the table has the later number.
            let first = self.first;
            if let Ok(found) = self.numbers.find_entry(hash(&self.hasher, &digest), |number| *number == first)
            {
                found.remove();
            }
            self.first = first.wrapping_add(1);
            dropped += 1;
        }
        dropped
    }
}

/// A keyed hash, so that clients, which choose event ids, cannot choose the slot in the table.
fn hash(hasher: &RandomState, digest: &[u8; 16]) -> u64 {
    hasher.hash_one(u128::from_ne_bytes(*digest))
}

/// Where the receipt with this number is, if the first one's is `first`.
const fn place(number: u32, first: u32) -> usize {
    number.wrapping_sub(first) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(receipt: u32) -> [u8; 16] {
        u128::from(receipt).to_le_bytes()
    }

    fn keep(receipts: &mut Receipts, receipt: u32, end: u32) {
        receipts.keep(receipts.hashed(&digest(receipt)), Second(end));
    }

    fn has(receipts: &Receipts, receipt: u32, now: u32) -> bool {
        receipts.has(receipts.hashed(&digest(receipt)), Second(now))
    }

    #[test]
    fn a_receipt_is_kept_until_it_ends_also_where_the_numbers_begin_again() {
        let mut receipts = Receipts { first: u32::MAX - 500, ..Receipts::default() };
        for at in 0..2_000_u32 {
            keep(&mut receipts, at, at + 1_000);
            receipts.drop_ended(Second(at), 4);
            for earlier in 0..=at {
                assert_eq!(has(&receipts, earlier, at), earlier + 1_000 > at, "{earlier} at {at}");
            }
        }
        assert_eq!((receipts.kept.len(), receipts.numbers.len()), (1_000, 1_000));
    }

    #[test]
    fn a_receipt_that_is_kept_again_outlives_its_first_end() {
        let mut receipts = Receipts::default();
        keep(&mut receipts, 1, 10);
        assert!(has(&receipts, 1, 9) && !has(&receipts, 1, 10));
        keep(&mut receipts, 1, 20);
        assert_eq!(receipts.drop_ended(Second(10), 4), 1);
        assert!(has(&receipts, 1, 19));
        assert_eq!(receipts.drop_ended(Second(20), 4), 1);
        assert!(!has(&receipts, 1, 19));
        assert!(receipts.numbers.is_empty() && receipts.kept.is_empty());
    }
}
