//! What the kernel has dropped of what arrived at a socket.
//!
//! The socket's own counter does not give the reason. Datagrams that there was no room for are counted by the network
//! namespace as well, for all of its sockets together: what the socket has dropped beyond that had another reason.

#[cfg(target_os = "linux")]
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;

use std::rc::Rc;

use crate::net::socket::Socket;
use crate::stats::{Drops, MessageSize};

/// Counts the drops of one socket. Only Linux reports them.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the system does not report drops"))]
pub(super) struct DropCounter {
    socket: Rc<Socket>,
    /// The value of the kernel's counter when it was last read. It wraps around at 2^32.
    last: u32,
    /// All drops until then, and those of them that were reported.
    total: u64,
    reported: u64,
}

#[cfg(target_os = "linux")]
impl DropCounter {
    pub(super) fn new(socket: &Rc<Socket>) -> Self {
        Self { socket: Rc::clone(socket), last: 0, total: 0, reported: 0 }
    }

    /// Reads the kernel's counter, often enough that it does not wrap around twice. This is cheap.
    pub(super) fn read(&mut self) {
        if let Ok(now) = kernel_drops(&*self.socket) {
            self.total += u64::from(now.wrapping_sub(self.last));
            self.last = now;
        }
    }

    /// Returns the drops that were not reported yet, each of which was `size` datagrams.
    pub(super) fn report(&mut self, size: MessageSize) -> Drops {
        self.read();
        let new = self.total - std::mem::replace(&mut self.reported, self.total);
        let without_room = if self.total > 0 { counters::without_room_since_start() } else { None };
        Drops { new, size, without_room }
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_self, reason = "the system does not report drops")]
impl DropCounter {
    pub(super) fn new(socket: &Rc<Socket>) -> Self {
        Self { socket: Rc::clone(socket), last: 0, total: 0, reported: 0 }
    }

    pub(super) fn read(&mut self) {}

    pub(super) fn report(&mut self, _: MessageSize) -> Drops {
        Drops::default()
    }
}

/// Returns how many datagrams the kernel has dropped at `socket` since it was opened, for whatever reason: its receive
/// buffer was full, a checksum was wrong, a filter rejected them. The counter wraps around at 2^32. A GRO batch counts
/// as one.
#[cfg(target_os = "linux")]
pub fn kernel_drops(socket: &impl AsFd) -> io::Result<u32> {
    super::sys::socket_drops(socket.as_fd())
}

/// Notes what was dropped before `sockets` are received from, so that reports separate the reasons exactly. This
/// takes some 50 µs, which a single request does not spend: without it, the reasons are derived from what was
/// dropped since the system started.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux reports drops"))]
pub fn note_earlier_drops<'s>(sockets: impl IntoIterator<Item = &'s Socket>) {
    #[cfg(target_os = "linux")]
    counters::note_start(sockets);
}

#[cfg(target_os = "linux")]
pub(super) mod counters {
    use std::fs;
    use std::sync::OnceLock;

    use crate::net::socket::Socket;

    /// The datagrams dropped without room when this process began to receive, if that can be known.
    static AT_START: OnceLock<Option<u64>> = OnceLock::new();

    /// Reads the counters once. What a socket that was passed to us has dropped before counts
    /// as dropped without room: its cause is unknown.
    pub(super) fn note_start<'s>(sockets: impl IntoIterator<Item = &'s Socket>) {
        AT_START.get_or_init(|| {
            let drops = |socket| u64::from(super::kernel_drops(socket).unwrap_or(0));
            let earlier: u64 = sockets.into_iter().map(drops).sum();
            Some(without_room()?.saturating_sub(earlier))
        });
    }

    /// Returns how many datagrams have been dropped since for want of room, at all sockets of the network namespace.
    pub(super) fn without_room_since_start() -> Option<u64> {
        let at_start = AT_START.get().copied().unwrap_or(Some(0))?;
        Some(without_room()?.saturating_sub(at_start))
    }

    /// Returns how many that are in all: no room in the receive buffer, or no memory for the protocol.
    pub(in crate::net) fn without_room() -> Option<u64> {
        let v4 = without_room_v4(&fs::read_to_string("/proc/net/snmp").ok()?)?;
        // It is absent where IPv6 is.
        let v6 = fs::read_to_string("/proc/net/snmp6").map_or(0, |table| without_room_v6(&table));
        Some(v4 + v6)
    }

    const COUNTERS: [&str; 2] = ["RcvbufErrors", "MemErrors"];

    /// Sums the counters of `/proc/net/snmp`: a line of names and one of numbers.
    fn without_room_v4(table: &str) -> Option<u64> {
        let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let counters = lines.next()?.split(' ').zip(lines.next()?.split(' '));
        let wanted = counters.filter(|(name, _)| COUNTERS.contains(name));
        Some(wanted.filter_map(|(_, number)| number.parse::<u64>().ok()).sum())
    }

    /// Sums the counters of `/proc/net/snmp6`: a name and a number a line.
    fn without_room_v6(table: &str) -> u64 {
        let counters =
            table.lines().filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace));
        let wanted = counters.filter(|(name, _)| COUNTERS.contains(name));
        wanted.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_counters_are_found_by_their_names() {
            let v4 = "Tcp: InErrs\nTcp: 9\nUdp: InErrors RcvbufErrors InCsumErrors MemErrors\nUdp: 100 20 70 3\n\
                      UdpLite: RcvbufErrors\nUdpLite: 9\n";
            let v6 = "Udp6InErrors \t9\nUdp6RcvbufErrors                \t4\nUdp6MemErrors\t1\nUdpLite6MemErrors 9\n";
            assert_eq!((without_room_v4(v4), without_room_v6(v6)), (Some(23), 5));
            assert_eq!((without_room_v4(""), without_room_v6("")), (None, 0));
        }
    }
}
