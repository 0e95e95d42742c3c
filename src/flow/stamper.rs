//! Stamps datagrams as they are sent, for `udp-listen --stamped`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

use crate::batch::stamp::nanoseconds;
use crate::batch::{Batch, Stamp};
use crate::net::addr::Addr;
use crate::net::{SendOutcome, Sender};

/// The most destinations whose sequences are kept. Of more, all sequences begin again, which is a new run to a receiver.
const DESTINATIONS: usize = 65_536;

/// Numbers the datagrams to each destination, and notes when they are sent.
#[derive(Debug, Default)]
pub struct Stamper {
    /// The next sequence number of a connected socket.
    connected: u64,
    /// The next sequence number of each destination, if the socket is not connected.
    by_destination: BTreeMap<Addr, u64>,
    stamped: Batch,
}

impl Stamper {
    /// The most datagrams that have the same time: as many as are the segments of one message. More would have left
    /// earlier than they do.
    pub const AT_ONCE: usize = 64;

    /// Sends the datagrams of `batch` at `places` as [`Sender::send`] does, each with a stamp of now. What is not sent
    /// takes no sequence number, and the outcome does not count the stamps as payload.
    pub fn send(&mut self, sender: &mut Sender, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.stamped.clear();
        let time = nanoseconds(SystemTime::now());
        for datagram in batch.part(places.clone()) {
            let sequence = self.take_next(datagram.envelope.to);
            self.stamped.address(*datagram.envelope);
            self.stamped.number_after(datagram.ordinal - 1);
            self.stamped.push_stamped(Stamp { sequence, time }, datagram.payload);
        }
        let mut outcome = sender.send(&self.stamped, 0..self.stamped.len());
        for datagram in batch.part(places.start + outcome.sent..places.end) {
            self.give_back(datagram.envelope.to);
        }
        outcome.bytes -= outcome.sent * Stamp::LEN;
        outcome
    }

    /// Returns the next sequence number of `destination`, and takes it.
    fn take_next(&mut self, destination: Option<Addr>) -> u64 {
        let Some(destination) = destination else {
            self.connected += 1;
            return self.connected - 1;
        };
        if self.by_destination.len() == DESTINATIONS && !self.by_destination.contains_key(&destination) {
            self.by_destination.clear();
        }
        let next = self.by_destination.entry(destination).or_default();
        *next += 1;
        *next - 1
    }

    /// Gives the last sequence number of `destination` back.
    fn give_back(&mut self, destination: Option<Addr>) {
        let next = match &destination {
            Some(destination) => self.by_destination.get_mut(destination),
            None => Some(&mut self.connected),
        };
        if let Some(next) = next {
            *next = next.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Envelope, LARGEST_V4};
    use crate::net::socket::Socket;
    use std::net::UdpSocket;
    use std::rc::Rc;

    /// Returns the stamp and the payload of the next datagram.
    fn receive(peer: &UdpSocket) -> (Stamp, Vec<u8>) {
        let mut bytes = [0; 64];
        let size = peer.recv(&mut bytes).unwrap();
        let (header, payload) = bytes[..size].split_first_chunk().unwrap();
        (Stamp::of_bytes(header).unwrap(), payload.to_vec())
    }

    #[test]
    fn each_destination_has_a_sequence_in_which_only_what_is_sent_has_a_number() {
        let [socket, one, two] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let too_long = vec![b'x'; LARGEST_V4 - Stamp::LEN + 1];
        let mut batch = Batch::new();
        for (payload, peer) in
            [(&b"a"[..], &one), (b"b", &two), (b"", &one), (&too_long, &one), (b"c", &two), (b"d", &one)]
        {
            batch.address(Envelope::to_peer(peer.local_addr().unwrap().into()));
            batch.push(payload);
        }
        let socket = Rc::new(Socket::from(socket));
        let (mut sender, mut stamper) = (Sender::new(&socket), Stamper::default());
        let before = nanoseconds(SystemTime::now());
        let outcome = stamper.send(&mut sender, &batch, 0..6);
        assert_eq!((outcome.sent, outcome.bytes), (3, 2));
        let unsent = outcome.stopped.unwrap();
        assert_eq!(unsent.ordinal, 4);
        let outcome = stamper.send(&mut sender, &batch, 4..6);
        assert_eq!((outcome.sent, outcome.bytes, outcome.stopped.is_none()), (2, 2, true));
        let after = nanoseconds(SystemTime::now());
        for (peer, expected) in [
            (&one, [(0, &b"a"[..]), (1, b""), (2, b"d")].as_slice()),
            (&two, &[(0, b"b".as_slice()), (1, b"c")]),
        ] {
            for (sequence, payload) in expected {
                let (stamp, received) = receive(peer);
                assert_eq!((stamp.sequence, &received[..]), (*sequence, *payload));
                assert!((before..=after).contains(&stamp.time));
            }
        }
    }

    #[test]
    fn the_memory_for_destinations_is_limited() {
        let mut stamper = Stamper::default();
        let destination = |number: u32| Some(Addr::Ip((number.to_be_bytes(), 9).into()));
        for number in 0..=65_536 {
            assert_eq!(stamper.take_next(destination(number)), 0);
        }
        assert_eq!(stamper.by_destination.len(), 1);
        assert_eq!(stamper.take_next(destination(65_536)), 1);
        // The sequence of that one has begun again.
        stamper.give_back(destination(0));
        assert_eq!(stamper.take_next(destination(0)), 0);
    }
}
