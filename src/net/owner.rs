//! Which process has bound a port or the name of a unix socket, as far as the system shows that to us: Linux lists all
//! sockets with their numbers, and the descriptors of the processes that we may look at.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::unix::inode;

/// How long the descriptors of a machine are searched at most.
const LIMIT: Duration = Duration::from_secs(1);

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of the process, which the process chooses.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

/// Returns the process whose socket keeps us from binding `address`, if it is visible, and whether all such sockets are
/// bound to multicast groups.
pub(super) fn of(address: SocketAddr) -> (Option<Owner>, bool) {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let (mut links, mut are_groups) = (Vec::new(), true);
    for (ip, inode) in tables.iter().flat_map(|table| sockets(table, address)) {
        links.push(format!("socket:[{inode}]"));
        are_groups &= ip.to_canonical().is_multicast();
    }
    (process_with(&links), are_groups && !links.is_empty())
}

/// Returns the process whose unix socket has this abstract name, which begins with a NUL, if it is visible.
pub(super) fn of_name(name: &[u8]) -> Option<Owner> {
    // The kernel shows each NUL so.
    let shown: Vec<u8> = name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect();
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let links: Vec<_> =
        unix_sockets(&table).filter(|(_, name)| *name == shown).map(|(link, _)| link).collect();
    process_with(&links)
}

/// Returns the process whose unix socket has the file at `path`, if it is visible.
pub(super) fn of_file(path: &Path) -> Option<Owner> {
    let file = inode(&path.metadata().ok()?);
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    // The kernel shows a path as it was bound, in the root and the working directory of that process.
    let bound: Vec<_> = unix_sockets(&table)
        .map(|(link, path)| (link, Path::new(OsStr::from_bytes(path))))
        .filter(|(_, bound)| bound.file_name() == path.file_name())
        .collect();
    let links: Vec<_> = bound.iter().map(|(link, _)| link.clone()).collect();
    process_where(&links, |pid, link| {
        let mut bound = bound.iter().filter(|(one, _)| one == link);
        bound.any(|(_, path)| {
            let path = match path.strip_prefix("/") {
                Ok(path) => Path::new(&format!("/proc/{pid}/root")).join(path),
                Err(_) => Path::new(&format!("/proc/{pid}/cwd")).join(path),
            };
            path.metadata().is_ok_and(|found| inode(&found) == file)
        })
    })
}

/// Returns the sockets in `table`, which is as `/proc/net/unix`, that have a name: what a descriptor of each links to,
/// and the name.
fn unix_sockets(table: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    // Num RefCount Protocol Flags Type St Inode Path
    table.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let (mut word, mut rest) = (&[][..], line);
        for _ in 0..7 {
            rest = rest.trim_ascii_start();
            (word, rest) = rest.split_at(rest.iter().position(|byte| *byte == b' ')?);
        }
        Some((format!("socket:[{}]", std::str::from_utf8(word).ok()?), &rest[1..]))
    })
}

/// Returns the process that has one of the sockets that `links` name. Of several it is the one with the lowest number.
fn process_with(links: &[String]) -> Option<Owner> {
    process_where(links, |_, _| true)
}

/// Returns the process that has one of the sockets that `links` name, and for which `is_owner` holds with that. Of
/// several it is the one with the lowest number.
fn process_where(links: &[String], is_owner: impl Fn(u32, &str) -> bool) -> Option<Owner> {
    if links.is_empty() {
        return None;
    }
    let until = Instant::now() + LIMIT;
    let mut processes: Vec<u32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    processes.sort_unstable();
    let mut processes = processes.into_iter().take_while(|_| Instant::now() < until);
    let pid = processes.find(|pid| has_one_of(links, *pid, &is_owner))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Owner { name: name.trim_end().to_owned(), pid })
}

/// Returns whether process `pid` has a descriptor of one of the sockets that `links` name, for which `is_owner` holds.
fn has_one_of(links: &[String], pid: u32, is_owner: impl Fn(u32, &str) -> bool) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path())
            .is_ok_and(|target| links.iter().any(|link| target == Path::new(link) && is_owner(pid, link)))
    })
}

/// Returns the addresses and the inode numbers of the sockets in `table`, which is as `/proc/net/udp`, that are bound to
/// the port of `address` and to an address that overlaps with it.
fn sockets(table: &str, address: SocketAddr) -> impl Iterator<Item = (IpAddr, &str)> {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (ip, port) = words.nth(1)?.split_once(':')?;
        let is_same = u16::from_str_radix(port, 16).ok()? == address.port();
        let ip = parse(ip).filter(|ip| is_same && overlaps(*ip, address.ip()))?;
        Some((ip, words.nth(7)?))
    })
}

/// Parses an address in hexadecimal digits: words of 32 bits as the machine reads them from memory.
fn parse(digits: &str) -> Option<IpAddr> {
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

/// Returns whether sockets at `one` and `other` may be in each other's way: a wildcard of IPv6 is in the way of IPv4 as
/// well.
fn overlaps(one: IpAddr, other: IpAddr) -> bool {
    let [one, other] = [one, other].map(|ip| ip.to_canonical());
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    one == other || covers(one, other) || covers(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_of_a_table_are_those_that_overlap_with_the_address() {
        let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let mapped =
            format!("{}{}{}{}", word([0; 4]), word([0; 4]), word([0, 0, 255, 255]), word([127, 0, 0, 1]));
        let line = |ip: &str, inode| {
            format!(
                "  1: {ip}:1E6C 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 {inode} 2 0 0\n"
            )
        };
        let table = format!(
            "  sl  local_address rem_address   st\n{}{}{}{}{}",
            line(&word([127, 0, 0, 1]), 1),
            line(&word([127, 0, 0, 2]), 2),
            line(&word([0; 4]), 3),
            line(&mapped, 4),
            line(&"0".repeat(32), 5),
        );
        for (address, inodes) in [
            ("127.0.0.1:7788", &["1", "3", "4", "5"][..]),
            ("[::]:7788", &["1", "2", "3", "4", "5"]),
            ("0.0.0.0:7788", &["1", "2", "3", "4", "5"]),
            ("[::1]:7788", &["5"]),
            ("127.0.0.1:7789", &[]),
        ] {
            let found = sockets(&table, address.parse().unwrap()).map(|(_, inode)| inode);
            assert_eq!(found.collect::<Vec<_>>(), inodes, "{address}");
        }
        for broken in ["", "x", "x\ny\n1: 0:1E6C\n", "x\n1: é:1E6C 0 0 0 0 0 0 0 9\n"] {
            assert_eq!(sockets(broken, "[::]:7788".parse().unwrap()).count(), 0, "{broken}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_owner_of_our_own_socket_is_this_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(of(socket.local_addr().unwrap()).0.map(|owner| owner.pid), Some(std::process::id()));
        let name = format!("\0udp-tools-owner-{}", std::process::id());
        assert_eq!(of_name(name.as_bytes()), None);
        let unix = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).unwrap();
        unix.bind(&socket2::SockAddr::unix(&name).unwrap()).unwrap();
        assert_eq!(of_name(name.as_bytes()).map(|owner| owner.pid), Some(std::process::id()));
    }
}
