//! Sends those datagrams that may pass, and notes the fate of the others.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::batch::{Batch, Fate};
use crate::flow::pace::Allowance;
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::SendOutcome;

/// How long datagrams wait for room in the send buffer. Nothing is received meanwhile.
pub(super) const ROOM: Duration = Duration::from_millis(20);

/// The result of sending datagrams.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) outcome: SendOutcome,
    /// Why the first of them that was not sent was not.
    pub(super) failure: Option<anyhow::Error>,
}

/// Marks the datagrams at `places` that exceed an `allowance`, if there is one.
pub(super) fn police(
    allowance: Option<&mut Allowance>,
    batch: &Batch,
    places: Range<usize>,
    fates: &mut [Fate],
    now: Instant,
) {
    let Some(allowance) = allowance else { return };
    for (datagram, fate) in batch.part(places).zip(fates) {
        let size = u32::try_from(datagram.payload.len()).unwrap_or(u32::MAX);
        if !allowance.take(size, now) {
            *fate = Fate::OverRate;
        }
    }
}

/// Sends those of the datagrams at `places` whose fate is to be sent, and marks those that cannot be.
pub(super) fn deliver(
    transmitter: &mut Transmitter<'_>,
    batch: &Batch,
    places: Range<usize>,
    fates: &mut [Fate],
) -> Delivered {
    let mut delivered = Delivered::default();
    let mut next = 0;
    while next < fates.len() {
        let passing = fates[next..].iter().take_while(|fate| fate.is_sent()).count();
        if passing == 0 {
            next += 1;
            continue;
        }
        let first = places.start + next;
        let outcome = transmitter.send(batch, first..first + passing);
        let sent = outcome.sent;
        next += sent;
        delivered.outcome.add(outcome);
        if let Some(unsent) = delivered.outcome.stopped.take() {
            // All of them go to one peer: without room, to wait for each of the others would hold up all sessions.
            let unsent_datagrams = if unsent.lacks_room() { passing } else { unsent.datagrams };
            let end = next + unsent_datagrams.min(passing - sent);
            fates[next..end].fill(Fate::Unsent);
            next = end;
            delivered.failure.get_or_insert_with(|| {
                match (unsent.lacks_room(), transmitter.is_peer_full()) {
                    (true, true) => anyhow!(messages::NOT_READ),
                    (true, false) => anyhow!(messages::NO_ROOM),
                    (false, _) => unsent.cause(),
                }
            });
        }
    }
    delivered
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::rc::Rc;

    use super::*;
    use crate::net::socket::Socket;
    use crate::runtime::signals::Signals;

    #[test]
    fn datagrams_to_a_peer_without_room_do_not_wait_for_it_one_after_another() {
        const MANY: usize = 2000;
        let (socket, _peer) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Rc::new(Socket::from(socket));
        let signals = Signals::install().unwrap();
        let mut transmitter = Transmitter::new(&socket, &signals);
        transmitter.limit_hold_up(ROOM);
        let mut batch = Batch::new();
        (0..MANY).for_each(|_| batch.push(b"x"));
        let (mut fates, start) = (vec![Fate::Sent; MANY], Instant::now());
        let delivered = deliver(&mut transmitter, &batch, 0..MANY, &mut fates);
        // One by one they would wait for 20 ms each.
        assert!(start.elapsed() < ROOM * 50, "{:?}", start.elapsed());
        let sent = delivered.outcome.sent;
        assert!(sent < MANY);
        assert_eq!(delivered.failure.unwrap().to_string(), "its receiver does not read");
        let expected = [vec![Fate::Sent; sent], vec![Fate::Unsent; MANY - sent]].concat();
        assert_eq!(fates, expected);
        // Nor do those of one client after another.
        let start = Instant::now();
        for _ in 0..MANY {
            let delivered = deliver(&mut transmitter, &batch, 0..1, &mut [Fate::Sent]);
            assert_eq!(delivered.outcome.sent, 0);
        }
        assert!(start.elapsed() < ROOM * 1000, "{:?}", start.elapsed());
    }
}
