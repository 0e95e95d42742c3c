//! Which process has bound a port or the name of a unix socket, as far as the system shows that to us: Linux lists all
//! sockets with their numbers, and the descriptors of the processes that we may look at.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::udp_table::{self, ListedSocket};
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
    let sockets: Vec<_> = udp_table::sockets(|all| all.iter().any(|socket| may_conflict(socket, address)))
        .into_iter()
        .filter(|socket| may_conflict(socket, address))
        .collect();
    let are_groups = sockets.iter().all(|socket| socket.local.ip().to_canonical().is_multicast());
    let links: Vec<_> = sockets.iter().map(|socket| link(socket.inode)).collect();
    (process_with(&links), are_groups && !links.is_empty())
}

/// Returns the process that has the socket of this `inode`, if it is visible, and the number of a descriptor of it there.
pub(super) fn of_socket(inode: u64) -> Option<(Owner, RawFd)> {
    process_where(&[link(inode)], |_, _| true)
}

/// Returns what a descriptor of the socket with this `inode` links to.
fn link(inode: u64) -> String {
    format!("socket:[{inode}]")
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
    let found = process_where(&links, |pid, link| {
        let mut bound = bound.iter().filter(|(one, _)| one == link);
        bound.any(|(_, path)| {
            let path = match path.strip_prefix("/") {
                Ok(path) => Path::new(&format!("/proc/{pid}/root")).join(path),
                Err(_) => Path::new(&format!("/proc/{pid}/cwd")).join(path),
            };
            path.metadata().is_ok_and(|found| inode(&found) == file)
        })
    });
    found.map(|(owner, _)| owner)
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
    process_where(links, |_, _| true).map(|(owner, _)| owner)
}

/// Returns the process that has one of the sockets that `links` name, and for which `is_owner` holds with that, and its
/// descriptor of it. Of several processes it is the one with the lowest number.
fn process_where(links: &[String], is_owner: impl Fn(u32, &str) -> bool) -> Option<(Owner, RawFd)> {
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
    let (pid, descriptor) =
        processes.find_map(|pid| Some((pid, descriptor_of_one(links, pid, &is_owner)?)))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((Owner { name: name.trim_end().to_owned(), pid }, descriptor))
}

/// Returns a descriptor that process `pid` has of one of the sockets that `links` name, for which `is_owner` holds.
fn descriptor_of_one(links: &[String], pid: u32, is_owner: &impl Fn(u32, &str) -> bool) -> Option<RawFd> {
    let mut descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let found = descriptors.find(|descriptor| {
        fs::read_link(descriptor.path())
            .is_ok_and(|target| links.iter().any(|link| target == Path::new(link) && is_owner(pid, link)))
    })?;
    found.file_name().to_str()?.parse().ok()
}

/// Returns whether `socket` may keep another from being bound to `address`.
fn may_conflict(socket: &ListedSocket, address: SocketAddr) -> bool {
    socket.local.port() == address.port() && overlaps(socket.local.ip(), address.ip())
}

/// Returns whether sockets at `one` and `other` may conflict: a wildcard of IPv6 covers the addresses of IPv4 as well.
fn overlaps(one: IpAddr, other: IpAddr) -> bool {
    let [one, other] = [one, other].map(|ip| ip.to_canonical());
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    one == other || covers(one, other) || covers(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_may_conflict_with_one_at_an_address_that_overlaps_with_its_own() {
        use super::udp_table::tests::line;

        let local =
            ["127.0.0.1:7788", "127.0.0.2:7788", "0.0.0.0:7788", "[::ffff:127.0.0.1]:7788", "[::]:7788"];
        let lines = (1..).zip(local).map(|(inode, local)| line(local, "0.0.0.0:0", inode, 0));
        let table = format!("  sl  local_address rem_address   st\n{}", lines.collect::<String>());
        for (address, inodes) in [
            ("127.0.0.1:7788", &[1, 3, 4, 5][..]),
            ("[::]:7788", &[1, 2, 3, 4, 5]),
            ("0.0.0.0:7788", &[1, 2, 3, 4, 5]),
            ("[::1]:7788", &[5]),
            ("127.0.0.1:7789", &[]),
        ] {
            let sockets = udp_table::parse(&table).filter(|one| may_conflict(one, address.parse().unwrap()));
            assert_eq!(sockets.map(|socket| socket.inode).collect::<Vec<_>>(), inodes, "{address}");
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
