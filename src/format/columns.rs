//! The columns before the text of a datagram: when it arrived, and who sent it. A tab ends each.
//!
//! What repeats from one datagram to the next, the second and the sender, is written out once.

use std::io::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::batch::Envelope;
use crate::net::addr::Addr;

/// The column of a sender without an address: a unix socket that is not bound. An empty one would be that of a further
/// line of the datagram before.
const NAMELESS: &[u8] = b"-";

/// Which columns there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// The time of receipt.
    pub time: bool,
    /// The sender.
    pub peer: bool,
}

impl Columns {
    /// Returns whether there are none.
    pub(crate) fn are_none(self) -> bool {
        !self.time && !self.peer
    }

    /// Returns the columns of a further line of the same datagram: they are empty.
    pub(super) fn empty(self) -> &'static [u8] {
        &b"\t\t"[..usize::from(self.time) + usize::from(self.peer)]
    }
}

/// Writes columns.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    columns: Columns,
    clock: Clock,
    /// The peer that was shown last, and its column, with its tab.
    peer: Option<Addr>,
    peer_shown: Vec<u8>,
    /// The columns that were shown last.
    shown: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(columns: Columns) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Returns the columns of the datagrams with this envelope. A time that is not known is empty.
    pub(crate) fn of(&mut self, envelope: &Envelope) -> &[u8] {
        self.shown.clear();
        if self.columns.time {
            if let Some(shown) = envelope.received.time.and_then(|time| self.clock.shown(time)) {
                self.shown.extend(shown);
            }
            self.shown.push(b'\t');
        }
        if self.columns.peer {
            if self.peer != envelope.from || self.peer_shown.is_empty() {
                self.peer = envelope.from;
                self.peer_shown.clear();
                match envelope.from {
                    Some(peer) => {
                        // Writing to a Vec cannot fail.
                        let _ = write!(self.peer_shown, "{peer}");
                    }
                    None => self.peer_shown.extend(NAMELESS),
                }
                self.peer_shown.push(b'\t');
            }
            self.shown.extend(&self.peer_shown);
        }
        &self.shown
    }
}

/// Shows times in the manner of RFC 3339, in UTC, with nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<i64>,
    /// The last time that was shown, which is in that second.
    shown: Vec<u8>,
}

impl Clock {
    /// Returns `time` as text, or `None` where that is beyond the year 9999.
    pub(super) fn shown(&mut self, time: SystemTime) -> Option<&[u8]> {
        let time = Timestamp::try_from(time).ok()?;
        // Before 1970 a fraction counts backwards.
        let nanosecond = u32::try_from(time.subsec_nanosecond()).ok();
        let second = nanosecond.map(|_| time.as_second());
        match (nanosecond, self.shown.len().checked_sub("000000000Z".len())) {
            (Some(mut rest), Some(fraction)) if self.second == second => {
                for digit in self.shown[fraction..].iter_mut().rev().skip(1) {
                    *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                    rest /= 10;
                }
            }
            _ => {
                self.second = second;
                self.shown.clear();
                // Writing to a Vec cannot fail.
                let _ = write!(self.shown, "{time:.9}");
            }
        }
        Some(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Received;
    use std::time::Duration;

    #[test]
    fn a_time_has_nine_digits_of_its_second() {
        let mut clock = Clock::default();
        for (seconds, nanoseconds, shown) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (0, 123_456_789, "1970-01-01T00:00:00.123456789Z"),
            (0, 20, "1970-01-01T00:00:00.000000020Z"),
            (1_795_608_000, 5, "2026-11-25T12:00:00.000000005Z"),
            (0, 10, "1970-01-01T00:00:00.000000010Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            assert_eq!(clock.shown(time), Some(shown.as_bytes()));
        }
        for (milliseconds, shown) in
            [(500, "1969-12-31T23:59:59.500000000Z"), (250, "1969-12-31T23:59:59.750000000Z")]
        {
            let time = SystemTime::UNIX_EPOCH - Duration::from_millis(milliseconds);
            assert_eq!(clock.shown(time), Some(shown.as_bytes()));
        }
        let beyond = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(clock.shown(beyond), None);
    }

    #[test]
    fn a_column_follows_its_datagram_whatever_is_known_of_it() {
        let mut writer = Writer::new(Columns { time: true, peer: true });
        let [one, two] = ["192.0.2.1:5", "[::1]:7"].map(|peer| Envelope::from_peer(peer.parse().unwrap()));
        let received = Received { time: Some(SystemTime::UNIX_EPOCH), ..Received::default() };
        let two = Envelope { received, ..two };
        let mut out = Vec::new();
        for envelope in [one, one, two, Envelope::default(), one] {
            out.extend(writer.of(&envelope));
            out.push(b'\n');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\t192.0.2.1:5\t\n\t192.0.2.1:5\t\n1970-01-01T00:00:00.000000000Z\t[::1]:7\t\n\t-\t\n\t192.0.2.1:5\t\n"
        );
    }
}
