//! What was counted, and how it is told.

use std::fmt;

/// What became of the datagrams of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handed to the network.
    pub sent: u64,
    /// Arrived here.
    pub received: u64,
    /// Known to have been refused by the destination's host. There may be more: hosts limit how
    /// many refusals they tell (RFC 1812, section 4.3.2.8), and two may look like one.
    pub refused: u64,
    /// Requests that nobody answered in time.
    pub silent: u64,
    /// Could not be read in the charset, and were left out.
    pub undecodable: u64,
}

impl Tally {
    /// The sentence about refusals by `peer`.
    #[must_use]
    pub fn refusals(&self, peer: &dyn fmt::Display) -> String {
        let refused = if self.refused >= self.sent {
            match self.sent {
                1 => "the datagram".to_owned(),
                2 => "both datagrams".to_owned(),
                all => format!("all {all} datagrams"),
            }
        } else {
            format!("at least {} of {} datagrams", self.refused, self.sent)
        };
        format!("{peer} refused {refused}: nobody listens on that port")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_numbers() {
        let tell = |sent, refused| Tally { sent, refused, ..Tally::default() }.refusals(&"host:9");
        assert_eq!(tell(1, 1), "host:9 refused the datagram: nobody listens on that port");
        assert_eq!(tell(3, 3), "host:9 refused all 3 datagrams: nobody listens on that port");
        assert_eq!(tell(3, 2), "host:9 refused at least 2 of 3 datagrams: nobody listens on that port");
    }
}
