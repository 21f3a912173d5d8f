//! The connections that are open, counted against the server's limits.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::endpoint;

/// The connections that are open, of the server and of each address.
pub(super) struct Places {
    most: usize,
    most_of_an_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Empty where addresses have no limit.
    addresses: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// IPv6 by its /64 network.
    address: Option<IpAddr>,
}

/// The limit that a connection exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Server,
    Address,
}

impl Places {
    /// Places for `most` connections, and for `most_of_an_address`; 0 stands for no limit.
    ///
    /// Every connection is an open file, so an eighth of the files that the process may open is left for the rest.
    /// One address gets at most half of the places.
    pub(super) fn new(most: usize, most_of_an_address: usize) -> Self {
        Self::within(open_files(), most, most_of_an_address)
    }

    fn within(files: usize, most: usize, most_of_an_address: usize) -> Self {
        let limit = |most: usize| if most == 0 { usize::MAX } else { most };
        let most = limit(most).min(files - files / 8);
        let most_of_an_address = match most_of_an_address {
            0 => usize::MAX,
            some => some.min(most.div_ceil(2)),
        };
        Self { most, most_of_an_address, taken: Mutex::default() }
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let address = (self.most_of_an_address < usize::MAX).then(|| endpoint::network(address));
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(Full::Server);
        }
        if let Some(address) = address {
            let of_address = taken.addresses.entry(address).or_default();
            if *of_address >= self.most_of_an_address {
                return Err(Full::Address);
            }
            *of_address += 1;
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(of_address) = taken.addresses.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                taken.addresses.remove(&address);
            }
        }
    }
}

/// The files that this process may have open.
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

    fn enter(places: &Arc<Places>, address: &str) -> Result<Place, Full> {
        places.enter(address.parse().unwrap())
    }

    #[test]
    fn law_06_connections_have_caps() {
        let places = Arc::new(Places::within(usize::MAX, 4, 2));
        let first = enter(&places, "192.0.2.1");
        let _second = enter(&places, "192.0.2.1").ok();
        assert_eq!(enter(&places, "192.0.2.1").err(), Some(Full::Address));
        let _third = enter(&places, "2001:db8:1:2::1").ok();
        let _fourth = enter(&places, "2001:db8:1:2::2").ok();
        assert_eq!(enter(&places, "192.0.2.3").err(), Some(Full::Server));
        drop(first);
        assert_eq!(enter(&places, "2001:db8:1:2:3::3").err(), Some(Full::Address), "the same /64");
        assert!(enter(&places, "2001:db8:1:3::1").is_ok(), "another /64");
    }

    #[test]
    fn law_06_no_count_is_left_when_connections_close() {
        let places = Arc::new(Places::within(usize::MAX, 0, 100));
        drop((0..100).map(|_| enter(&places, "::1").ok().unwrap()).collect::<Vec<_>>());
        let taken = places.taken.lock();
        assert!(taken.all == 0 && taken.addresses.is_empty());
    }

    #[test]
    fn law_06_one_address_never_takes_every_connection() {
        let caps = |files, most, most_of_an_address| {
            let places = Places::within(files, most, most_of_an_address);
            (places.most, places.most_of_an_address)
        };
        assert_eq!(caps(1_024, 50_000, 2_000), (896, 448));
        assert_eq!(caps(1 << 20, 50_000, 2_000), (50_000, 2_000));
        assert_eq!(caps(1_024, 100, 0), (100, usize::MAX), "behind a proxy");
        assert_eq!(caps(usize::MAX, 1, 5), (1, 1));
    }
}
