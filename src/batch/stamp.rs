//! The header that `udp-send --stamp` puts before each payload, and that `udp-listen --stamped` takes off.
//!
//! It has 16 bytes: the sequence number and the time of sending, in nanoseconds since 1970, both unsigned in network
//! byte order. As in OWAMP (RFC 4656, section 4.1.2), sequences begin at 0. None ever reaches 2^56, so that the first
//! byte is always 0: no text begins so.

use std::time::{SystemTime, UNIX_EPOCH};

/// The sequence number and the send time of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// How many datagrams were sent to the same destination before it in the run.
    pub sequence: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub time: u64,
}

impl Stamp {
    /// Its length before a payload, in bytes.
    pub const LEN: usize = 16;

    /// Returns its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.time.to_be_bytes());
        bytes
    }

    /// Returns the stamp that these bytes are, if they can be one.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (sequence, time) = bytes.split_first_chunk()?;
        let (sequence, time) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*time.first_chunk()?));
        (bytes[0] == 0).then_some(Self { sequence, time })
    }

    /// Returns how long after it was sent it arrived, in nanoseconds. It is less than 0 if the clock of the sender is
    /// ahead by more than that took.
    #[must_use]
    pub fn delay(self, arrival: SystemTime) -> i64 {
        nanoseconds(arrival).wrapping_sub(self.time).cast_signed()
    }
}

/// Returns `time` in nanoseconds since 1970, as a stamp has it: 0 before, and enough until the year 2554.
#[must_use]
pub fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stamp_is_two_numbers_in_network_byte_order_and_a_text_is_not_one() {
        let stamp = Stamp { sequence: 0x0102_0304, time: 0x1122_3344_5566_7788 };
        let bytes = *b"\0\0\0\0\x01\x02\x03\x04\x11\x22\x33\x44\x55\x66\x77\x88";
        assert_eq!(stamp.to_bytes(), bytes);
        assert_eq!(Stamp::of_bytes(&bytes), Some(stamp));
        assert_eq!(Stamp::of_bytes(b"temperature:21.5"), None);
    }

    #[test]
    fn a_delay_is_negative_where_the_clock_of_the_sender_is_ahead() {
        let arrival = UNIX_EPOCH + Duration::from_micros(1);
        for (time, delay) in [(990, 10), (1000, 0), (1010, -10)] {
            assert_eq!(Stamp { sequence: 0, time }.delay(arrival), delay);
        }
    }
}
