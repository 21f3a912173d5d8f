//! A file to which the jobs of all nodes add their attempts.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use faststate_core::Key;

/// The file. Each line is one write, so a killed node does not truncate it.
#[derive(Clone, Debug)]
pub(super) struct JobLog(pub(super) PathBuf);

/// The attempts of one job.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The id of each attempt, in order.
    pub(super) ids: Vec<String>,
    /// The number of attempts that came to their end.
    pub(super) ended: usize,
}

impl JobLog {
    /// Adds the beginning or the end of an attempt.
    pub(super) fn add(&self, account: &Key, number: u64, id: &str, is_end: bool) {
        let line = format!("{} {number} {id} {is_end}\n", account.as_str());
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }

    /// Returns the attempts of each job, by its account and its number.
    pub(super) fn read(&self) -> BTreeMap<(String, u64), Attempts> {
        let mut jobs: BTreeMap<(String, u64), Attempts> = BTreeMap::new();
        for line in fs::read_to_string(&self.0).unwrap_or_default().lines() {
            let [account, number, id, is_end] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("a line is damaged: {line}");
            };
            let attempts = jobs.entry((account.to_owned(), number.parse::<u64>().unwrap())).or_default();
            if is_end == "true" {
                attempts.ended += 1;
            } else {
                attempts.ids.push(id.to_owned());
            }
        }
        jobs
    }
}
