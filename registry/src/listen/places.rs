//! Places: how many connections there are, for everybody and for each address.
//!
//! One address has at most its share, so that whoever opens all the connections they can delays themselves only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The part of an IPv6 address that tells one network from another: within it, anybody has as many as they like.
const NETWORK: u128 = !0 << 64;

/// Where a request comes from, for those who have no token; every request carries it. One IPv6 network is one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// Returns the peer that this address belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & NETWORK).into(),
            four @ IpAddr::V4(_) => four,
        })
    }

    /// Returns its address; of an IPv6 network, the first one.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

/// There is no place to be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The address has its share already.
    Peer,
    /// Others have all of them.
    Site,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// None is counted that has none.
    of: HashMap<Peer, usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Places {
    all: usize,
    of_one: usize,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(super) fn new(all: usize, of_one: usize) -> Self {
        Self {
            all,
            of_one,
            taken: Arc::default(),
        }
    }

    pub(super) fn take(&self, peer: Peer) -> Result<Place, NoPlace> {
        let mut taken = self.lock();
        if taken.all >= self.all {
            return Err(NoPlace::Site);
        }
        let of_peer = taken.of.entry(peer).or_default();
        if *of_peer >= self.of_one {
            return Err(NoPlace::Peer);
        }
        *of_peer += 1;
        taken.all += 1;
        Ok(Place {
            places: self.clone(),
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    peer: Peer,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.of.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.of.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::of(address.parse().unwrap())
    }

    #[test]
    fn one_address_leaves_places_for_others() {
        let places = Places::new(3, 2);
        let first = places.take(peer("192.0.2.1")).unwrap();
        let _second = places.take(peer("192.0.2.1")).unwrap();
        assert_eq!(places.take(peer("192.0.2.1")).unwrap_err(), NoPlace::Peer);
        let other = places.take(peer("192.0.2.2")).unwrap();
        assert_eq!(places.take(peer("192.0.2.3")).unwrap_err(), NoPlace::Site);
        drop(other);
        assert_eq!(places.take(peer("192.0.2.1")).unwrap_err(), NoPlace::Peer);
        drop(first);
        assert!(places.take(peer("192.0.2.1")).is_ok());
        assert_eq!(places.lock().of.len(), 1, "who has gone is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_each_ipv4_address_is_one() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1:2:3"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("::ffff:192.0.2.1"), peer("::ffff:192.0.2.2"));
    }
}
