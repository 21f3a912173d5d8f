//! Limits failed login attempts.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a failure counts.
const WINDOW: Duration = Duration::from_mins(1);

/// Failures of one name within [`WINDOW`] before further attempts are refused unchecked.
const FAILURES_PER_NAME: u32 = 10;
/// The same for one address. Higher, because many users may share an address, and all users that of a proxy.
const FAILURES_PER_ADDRESS: u32 = 30;

/// Maximum number of names, and of addresses. Beyond it, attempts of new ones are refused until old ones expire, which
/// takes at most [`WINDOW`].
const MAX_KEYS: usize = 10_000;

/// Failed attempts by name and by address, in bounded memory.
#[derive(Debug)]
pub(crate) struct Throttle {
    names: Mutex<Failures<String>>,
    addresses: Mutex<Failures<IpAddr>>,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        let (names, addresses) = (Failures::new(FAILURES_PER_NAME), Failures::new(FAILURES_PER_ADDRESS));
        Self { names: Mutex::new(names), addresses: Mutex::new(addresses) }
    }

    /// Returns whether an attempt may be made now. It counts as a failure until [`succeeded`](Self::succeeded) is
    /// called, so that concurrent attempts cannot exceed the limit.
    pub(crate) fn admits(&self, name: &str, address: Option<IpAddr>, now: Instant) -> bool {
        let address = address.is_none_or(|address| lock(&self.addresses).admits(&network(address), now));
        address && lock(&self.names).admits(&short(name), now)
    }

    /// Records a successful attempt: the failures of its name are forgotten.
    pub(crate) fn succeeded(&self, name: &str, address: Option<IpAddr>) {
        lock(&self.names).forget(&short(name));
        if let Some(address) = address {
            lock(&self.addresses).forget_one(&network(address));
        }
    }
}

/// The number of failures and the time of the first, by key.
#[derive(Debug)]
struct Failures<K> {
    limit: u32,
    counts: HashMap<K, (u32, Instant)>,
}

impl<K: Clone + Eq + Hash> Failures<K> {
    fn new(limit: u32) -> Self {
        Self { limit, counts: HashMap::new() }
    }

    fn admits(&mut self, key: &K, now: Instant) -> bool {
        let is_old = |since: &Instant| now.duration_since(*since) >= WINDOW;
        if let Some((count, since)) = self.counts.get_mut(key) {
            if is_old(since) {
                (*count, *since) = (0, now);
            }
            if *count >= self.limit {
                return false;
            }
            *count += 1;
            return true;
        }
        if self.counts.len() >= MAX_KEYS {
            self.counts.retain(|_, (_, since)| !is_old(since));
        }
        let has_room = self.counts.len() < MAX_KEYS;
        if has_room {
            self.counts.insert(key.clone(), (1, now));
        }
        has_room
    }

    fn forget(&mut self, key: &K) {
        self.counts.remove(key);
    }

    fn forget_one(&mut self, key: &K) {
        if let Some((count, _)) = self.counts.get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The address that is counted: an IPv6 network of 64 bits counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

/// The part of a name that is stored.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn attempts_are_refused_by_name_after_ten_failures_in_a_minute() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let admitted = (0..100).filter(|from| throttle.admits("alice", address(*from), now)).count();
        assert_eq!(admitted, 10);
        assert!(throttle.admits("bob", address(1), now));
        assert!(throttle.admits("alice", address(1), now + WINDOW));
    }

    #[test]
    fn attempts_are_refused_by_address_after_thirty_failures_in_a_minute() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let admitted = (0..100).filter(|name| throttle.admits(&name.to_string(), address(1), now)).count();
        assert_eq!(admitted, 30);
        assert!(throttle.admits("x", address(2), now));
        let network = |last: u128| Some(IpAddr::from((0x2001_0db8_u128 << 96 | last).to_be_bytes()));
        let admitted =
            (0..100).filter(|last| throttle.admits(&format!("v6-{last}"), network(*last), now)).count();
        assert_eq!(admitted, 30, "one network of 64 bits");
    }

    #[test]
    fn success_forgets_failures_of_its_name() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for _ in 0..100 {
            assert!(throttle.admits("alice", address(1), now));
            throttle.succeeded("alice", address(1));
        }
    }

    #[test]
    fn law_06_names_and_addresses_are_remembered_in_bounded_memory() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for number in 0..2 * u32::try_from(MAX_KEYS).unwrap() {
            throttle.admits(&number.to_string().repeat(50), Some(IpAddr::from(number.to_be_bytes())), now);
        }
        assert!(lock(&throttle.names).counts.len() <= MAX_KEYS);
        assert!(lock(&throttle.addresses).counts.len() <= MAX_KEYS);
        assert!(lock(&throttle.names).counts.keys().all(|name| name.len() <= 160));
        // The flood is forgotten after the window.
        assert!(throttle.admits("alice", address(1), now + WINDOW));
    }
}
