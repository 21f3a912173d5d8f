//! Limits on open connections, per server and per address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::endpoint;

/// Counts the open connections of the server and of each address, and enforces the limits.
pub(super) struct ConnectionLimits {
    max: usize,
    max_per_address: usize,
    open: Mutex<ConnectionCounts>,
}

#[derive(Default)]
struct ConnectionCounts {
    all: usize,
    /// Empty if there is no limit per address.
    addresses: HashMap<IpAddr, usize>,
}

/// Permission to keep a connection open. Dropping it releases the connection's slot.
pub(super) struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    /// The address that the connection counts for (an IPv6 address as its /64 network), if addresses have a limit.
    address: Option<IpAddr>,
}

/// The limit that refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    Server,
    Address,
}

impl ConnectionLimits {
    /// Limits the server to `max` connections and each address to `max_per_address`; 0 means no limit.
    ///
    /// Every connection is an open file, so an eighth of the files that the process may open is reserved for other
    /// uses. One address gets at most half of the connections.
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self::within(open_files(), max, max_per_address)
    }

    fn within(files: usize, max: usize, max_per_address: usize) -> Self {
        let limit = |max: usize| if max == 0 { usize::MAX } else { max };
        let max = limit(max).min(files - files / 8);
        let max_per_address = match max_per_address {
            0 => usize::MAX,
            some => some.min(max.div_ceil(2)),
        };
        Self { max, max_per_address, open: Mutex::default() }
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, LimitReached> {
        let address = (self.max_per_address < usize::MAX).then(|| endpoint::network(address));
        let mut open = self.open.lock();
        if open.all >= self.max {
            return Err(LimitReached::Server);
        }
        if let Some(address) = address {
            let address_count = open.addresses.entry(address).or_default();
            if *address_count >= self.max_per_address {
                return Err(LimitReached::Address);
            }
            *address_count += 1;
        }
        open.all += 1;
        Ok(ConnectionPermit { limits: Arc::clone(self), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(address_count) = open.addresses.get_mut(&address)
        {
            *address_count -= 1;
            if *address_count == 0 {
                open.addresses.remove(&address);
            }
        }
    }
}

/// The number of files that this process may have open.
#[cfg(unix)]
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|files| files.try_into().ok()).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
const fn open_files() -> usize {
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(limits: &Arc<ConnectionLimits>, address: &str) -> Result<ConnectionPermit, LimitReached> {
        limits.enter(address.parse().unwrap())
    }

    #[test]
    fn law_06_connections_are_capped_by_server_and_address() {
        let limits = Arc::new(ConnectionLimits::within(usize::MAX, 4, 2));
        let first = enter(&limits, "192.0.2.1");
        let _second = enter(&limits, "192.0.2.1").ok();
        assert_eq!(enter(&limits, "192.0.2.1").err(), Some(LimitReached::Address));
        let _third = enter(&limits, "2001:db8:1:2::1").ok();
        let _fourth = enter(&limits, "2001:db8:1:2::2").ok();
        assert_eq!(enter(&limits, "192.0.2.3").err(), Some(LimitReached::Server));
        drop(first);
        assert_eq!(enter(&limits, "2001:db8:1:2:3::3").err(), Some(LimitReached::Address), "the same /64");
        assert!(enter(&limits, "2001:db8:1:3::1").is_ok(), "another /64");
    }

    #[test]
    fn law_06_closed_connections_leave_no_counts() {
        let limits = Arc::new(ConnectionLimits::within(usize::MAX, 0, 100));
        drop((0..100).map(|_| enter(&limits, "::1").ok().unwrap()).collect::<Vec<_>>());
        let open = limits.open.lock();
        assert!(open.all == 0 && open.addresses.is_empty());
    }

    #[test]
    fn law_06_one_address_gets_half_of_the_connections() {
        let caps = |files, max, max_per_address| {
            let limits = ConnectionLimits::within(files, max, max_per_address);
            (limits.max, limits.max_per_address)
        };
        assert_eq!(caps(1_024, 50_000, 2_000), (896, 448));
        assert_eq!(caps(1 << 20, 50_000, 2_000), (50_000, 2_000));
        assert_eq!(caps(1_024, 100, 0), (100, usize::MAX), "behind a proxy");
        assert_eq!(caps(usize::MAX, 1, 5), (1, 1));
    }
}
