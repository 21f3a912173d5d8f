//! Naive caches, each with a flaw that the tests must catch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use faststate_core::{
    Key, Store, Version,
    store::{DueKeys, Loaded, PendingSummary, Precondition, Receipt, Record, SaveOutcome, StoreError},
};
use faststate_testkit::suites;

use super::{
    Shared,
    chaos::{Moody, run},
    memory,
};

/// The flaw of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Writes a loaded record into the fast store even if that has a newer one.
    FillsLate,
    /// Saves in the durable store and then in the fast one, without a claim.
    SavesDurableFirst,
    /// Saves in the fast store before the durable one has accepted the save.
    SavesFastFirst,
    JudgesReceiptsFast,
    JudgesVersionsFast,
    TouchesDurableOnly,
    DeletesDurableOnly,
    ForgetsTimeToLive,
}

#[derive(Debug)]
struct Naive {
    fast: Shared,
    durable: Shared,
    flaw: Flaw,
}

impl Naive {
    fn node(fast: &Shared, durable: &Shared, flaw: Flaw) -> Shared {
        Arc::new(Self { fast: Arc::clone(fast), durable: Arc::clone(durable), flaw })
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Overwrites the record in the fast store.
    async fn put(&self, key: &Key, record: &Record) -> Result<(), StoreError> {
        let mut record = record.clone();
        if self.is(Flaw::ForgetsTimeToLive) {
            record.ttl = None;
        }
        loop {
            let found = self.fast.load(key, None).await?.record;
            let expect = found.map_or(Precondition::Absent, |found| Precondition::Version(found.version));
            if self.fast.save(key, &record, expect, None).await? == SaveOutcome::Saved {
                return Ok(());
            }
        }
    }

    async fn forget(&self, key: &Key) -> Result<(), StoreError> {
        while let Some(found) = self.fast.load(key, None).await?.record {
            self.fast.delete(key, found.version).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Naive {
    async fn load(&self, key: &Key, receipt: Option<&Receipt>) -> Result<Loaded, StoreError> {
        if receipt.is_some() && !self.is(Flaw::JudgesReceiptsFast) {
            return self.durable.load(key, receipt).await;
        }
        let found = self.fast.load(key, receipt).await?;
        if found.record.is_some() {
            return Ok(found);
        }
        let loaded = self.durable.load(key, receipt).await?;
        if let Some(record) = &loaded.record {
            self.put(key, record).await?;
        }
        Ok(loaded)
    }

    async fn save(
        &self,
        key: &Key,
        record: &Record,
        expect: Precondition,
        receipt: Option<&Receipt>,
    ) -> Result<SaveOutcome, StoreError> {
        match self.flaw {
            Flaw::SavesFastFirst => self.put(key, record).await?,
            Flaw::SavesDurableFirst => {}
            Flaw::JudgesVersionsFast => {
                if let Some(found) = self.fast.load(key, None).await?.record
                    && expect != Precondition::Version(found.version)
                {
                    return Ok(SaveOutcome::Conflict);
                }
            }
            _ => self.forget(key).await?,
        }
        let saving = self.durable.save(key, record, expect, receipt).await?;
        if saving == SaveOutcome::Saved {
            self.put(key, record).await?;
        }
        Ok(saving)
    }

    async fn refuse(&self, key: &Key, receipt: &Receipt, answer: &Bytes) -> Result<bool, StoreError> {
        self.durable.refuse(key, receipt, answer).await
    }

    async fn release(&self, receipts: &[(Key, Receipt)]) -> Result<(), StoreError> {
        self.durable.release(receipts).await
    }

    async fn due(&self, limit: usize) -> Result<DueKeys, StoreError> {
        self.durable.due(limit).await
    }

    async fn pending(&self, limit: usize) -> Result<PendingSummary, StoreError> {
        self.durable.pending(limit).await
    }

    async fn delete(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        if !self.is(Flaw::DeletesDurableOnly) {
            self.forget(key).await?;
        }
        self.durable.delete(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Duration) -> Result<bool, StoreError> {
        if !self.is(Flaw::TouchesDurableOnly) {
            self.forget(key).await?;
        }
        self.durable.touch(key, ttl).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.fast.sweep(limit).await?;
        self.durable.sweep(limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn suite_catches_caches_with_logical_flaws() {
    let flaws = [
        Flaw::SavesFastFirst,
        Flaw::JudgesReceiptsFast,
        Flaw::JudgesVersionsFast,
        Flaw::TouchesDurableOnly,
        Flaw::DeletesDurableOnly,
        Flaw::ForgetsTimeToLive,
    ];
    let suites = flaws.map(|flaw| {
        let (fast, durable) = (memory(), memory());
        let (a, b) = (Naive::node(&fast, &durable, flaw), Naive::node(&fast, &durable, flaw));
        tokio::spawn(async move { (flaw, suites::store::all(&a, &b).await) })
    });
    for suite in suites {
        let (flaw, outcome) = suite.await.unwrap();
        println!("{flaw:?}: {outcome:?}");
        assert!(outcome.is_err(), "{flaw:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_catches_caches_with_races() {
    for flaw in [Flaw::FillsLate, Flaw::SavesDurableFirst, Flaw::SavesFastFirst] {
        let mut caught = false;
        for seed in 0..20 {
            let (fast, durable) = (Moody::store(seed, false), Moody::store(seed + 1, false));
            let node = || Naive::node(&fast, &durable, flaw);
            caught |= run(node(), node(), seed).await.is_err();
        }
        assert!(caught, "{flaw:?}");
    }
}
