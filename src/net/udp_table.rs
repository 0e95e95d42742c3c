//! The UDP sockets of this network namespace, as Linux lists them in `/proc/net/udp` and `/proc/net/udp6`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A UDP socket of some process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListedSocket {
    /// The address that it is bound to. The table shows no zone.
    pub(super) local: SocketAddr,
    /// The address that it is connected to, with port 0 if it is not.
    pub(super) remote: SocketAddr,
    /// The number of its inode, which the descriptors of its process show as well.
    pub(super) inode: u64,
    /// The number of datagrams that the kernel has dropped at it since it was opened. It wraps around at 2^32.
    pub(super) drops: u32,
}

/// Returns all sockets. There are none where the system does not list them. Linux lists them a page at a time, and skips
/// some while others are closed: the tables are read again, twice at most, unless they `have` those that are wanted.
pub(super) fn sockets(have: impl Fn(&[ListedSocket]) -> bool) -> Vec<ListedSocket> {
    let mut sockets = read();
    for _ in 0..2 {
        if have(&sockets) {
            break;
        }
        sockets = read();
    }
    sockets
}

fn read() -> Vec<ListedSocket> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| parse(table)).collect()
}

/// Parses a table.
pub(super) fn parse(table: &str) -> impl Iterator<Item = ListedSocket> {
    table.lines().skip(1).filter_map(|line| {
        // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ref pointer drops
        let mut words = line.split_ascii_whitespace().skip(1);
        Some(ListedSocket {
            local: address(words.next()?)?,
            remote: address(words.next()?)?,
            inode: words.nth(6)?.parse().ok()?,
            drops: words.nth(2)?.parse().ok()?,
        })
    })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    Some(SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?))
}

/// Parses an address in hexadecimal digits: words of 32 bits as the machine reads them from memory.
fn parse_ip(digits: &str) -> Option<IpAddr> {
    let word = |from: usize| {
        let word = u32::from_str_radix(digits.get(from..from + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for place in 0..4 {
                octets[4 * place..][..4].copy_from_slice(&word(8 * place)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a line of a table.
    pub(in crate::net) fn line(local: &str, remote: &str, inode: u64, drops: u32) -> String {
        let [local, remote] = [local, remote].map(|address| {
            let address: SocketAddr = address.parse().unwrap();
            let octets = match address.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let words = octets.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
            let digits: String = words.map(|word| format!("{word:08X}")).collect();
            format!("{digits}:{:04X}", address.port())
        });
        format!(
            "  1: {local} {remote} 07 00000000:00000000 00:00000000 00000000  0  0 {inode} 2 0000000000000000 {drops}\n"
        )
    }

    #[test]
    fn a_table_is_parsed() {
        let table = [
            "  sl  local_address rem_address   st\n",
            &line("127.0.0.1:7788", "0.0.0.0:0", 1, 0),
            &line("[::ffff:127.0.0.1]:7788", "[::1]:9", 2, u32::MAX),
        ];
        let socket = |local: &str, remote: &str, inode, drops| ListedSocket {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            inode,
            drops,
        };
        let sockets = [
            socket("127.0.0.1:7788", "0.0.0.0:0", 1, 0),
            socket("[::ffff:127.0.0.1]:7788", "[::1]:9", 2, u32::MAX),
        ];
        assert_eq!(parse(&table.concat()).collect::<Vec<_>>(), sockets);
        for broken in ["", "x", "x\ny\n1: 0:1E6C\n", "x\n1: é:1E6C 0 0 0 0 0 0 0 9\n"] {
            assert_eq!(parse(broken).count(), 0, "{broken}");
        }
    }
}
