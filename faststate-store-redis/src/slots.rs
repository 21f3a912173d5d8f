//! The slots of a cluster, and the servers that hold them.

use bb8_redis::redis::{Value, from_redis_value};

use crate::address::ServerAddress;

/// Number of slots in a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The masters of a cluster and their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// The first slot, the last slot, and the index of the master; ordered by slot.
    ranges: Vec<(u16, u16, usize)>,
    masters: Vec<ServerAddress>,
    replicas: Vec<ServerAddress>,
}

impl SlotMap {
    /// Decodes the answer to `CLUSTER SLOTS` of `server`.
    pub(crate) fn decode(answer: Value, server: &ServerAddress) -> Option<Self> {
        let rows: Vec<Vec<Value>> = from_redis_value(answer).ok()?;
        let mut map = Self::default();
        for row in rows {
            let mut row = row.into_iter();
            let (first, last) = (from_redis_value(row.next()?).ok()?, from_redis_value(row.next()?).ok()?);
            let mut nodes = row.filter_map(|node| address(node, server));
            let Some(master) = nodes.next() else { continue };
            let index = map.masters.iter().position(|known| *known == master).unwrap_or_else(|| {
                map.masters.push(master);
                map.masters.len() - 1
            });
            map.ranges.push((first, last, index));
            for replica in nodes {
                if !map.replicas.contains(&replica) {
                    map.replicas.push(replica);
                }
            }
        }
        map.ranges.sort_unstable();
        Some(map)
    }

    /// The master of a slot.
    pub(crate) fn master(&self, slot: u16) -> Option<&ServerAddress> {
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, master) = self.ranges.get(at)?;
        (*first <= slot).then(|| &self.masters[*master])
    }

    pub(crate) fn masters(&self) -> &[ServerAddress] {
        &self.masters
    }

    /// All servers, masters first.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &ServerAddress> {
        self.masters.iter().chain(&self.replicas)
    }
}

/// Decodes a server of a row. A cluster without a name for a server means the server that was asked.
fn address(node: Value, asked: &ServerAddress) -> Option<ServerAddress> {
    let Value::Array(node) = node else { return None };
    let mut node = node.into_iter();
    let host: Option<String> = from_redis_value(node.next()?).ok()?;
    let port = from_redis_value(node.next()?).ok()?;
    let own = || match asked {
        ServerAddress::Tcp { host, .. } => Some(host.clone()),
        ServerAddress::Socket(_) => None,
    };
    let host = match host {
        Some(host) if !host.is_empty() && host != "?" => host,
        _ => own()?,
    };
    Some(ServerAddress::Tcp { host, port })
}

/// The server of a redirection such as `MOVED 3999 127.0.0.1:6381`.
pub(crate) fn redirection(target: &str, from: &ServerAddress) -> Option<ServerAddress> {
    let (host, port) = target.rsplit_once(':')?;
    let host = match (host, from) {
        ("", ServerAddress::Tcp { host, .. }) => host.clone(),
        _ => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
    };
    Some(ServerAddress::Tcp { host, port: port.parse().ok()? })
}

/// The slot of a name: the CRC16 (XMODEM) of the text in its first braces, or of the whole name if that is empty.
pub(crate) fn slot(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(name)) % SLOTS
}

/// The checksum by which a cluster assigns slots.
pub(crate) fn crc16(text: &str) -> u16 {
    text.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> ServerAddress {
        ServerAddress::Tcp { host: host.to_owned(), port }
    }

    fn node(host: &str, port: i64) -> Value {
        let id = Value::BulkString(b"id".to_vec());
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), id])
    }

    fn row(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn slots_match_cluster_keyslot() {
        // From `CLUSTER KEYSLOT`.
        for (name, expected) in
            [("123456789", 12_739), ("somekey", 11_058), ("foo{hash_tag}", 2_515), ("foo{}", 5_542)]
        {
            assert_eq!(slot(name), expected, "{name}");
        }
    }

    #[test]
    fn slot_map_names_the_master_of_each_slot() {
        let rows = Value::Array(vec![
            row(8000, 16_383, vec![node("b", 2), node("c", 3)]),
            row(0, 7999, vec![node("", 1)]),
        ]);
        let map = SlotMap::decode(rows, &server("a", 9)).unwrap();
        assert_eq!(map.master(0), Some(&server("a", 1)), "an unnamed server is the one that was asked");
        assert_eq!(map.master(7999), Some(&server("a", 1)));
        assert_eq!(map.master(8000), Some(&server("b", 2)));
        assert_eq!(map.servers().count(), 3);

        let holes = Value::Array(vec![row(5, 6, vec![node("a", 1)]), row(8, 16_383, vec![node("b", 2)])]);
        let map = SlotMap::decode(holes, &server("a", 9)).unwrap();
        assert_eq!([4, 7].map(|slot| map.master(slot)), [None, None]);
    }

    #[test]
    fn redirection_without_a_host_is_the_same_host() {
        let from = server("a", 1);
        assert_eq!(redirection("127.0.0.1:6381", &from), Some(server("127.0.0.1", 6381)));
        assert_eq!(redirection(":6381", &from), Some(server("a", 6381)));
        assert_eq!(redirection("::1:6381", &from), Some(server("::1", 6381)));
        assert_eq!(redirection("nowhere", &from), None);
    }
}
