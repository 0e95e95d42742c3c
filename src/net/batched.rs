//! The engine of Linux: many datagrams a call, and many of equal length as the segments of one.
//!
//! A datagram that it cannot send so is sent by itself, as [`super::single`] does.

#![expect(unsafe_code, reason = "the calls that move many datagrams have no safe wrapper")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what the kernel counts fits in what it declares"
)]

use std::cell::RefCell;
use std::io;
use std::iter;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::rc::Rc;

use nix::errno::Errno;
use nix::libc::{self, c_uint, iovec, mmsghdr, sockaddr_in6, socklen_t};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::SockAddr;

use super::cmsg::{ControlBuffer, ControlMessages, RECEIVED, SendControl, address, empty_header, no_name};
use super::shared::{ReceiveSocket, SendSocket};
use super::{
    Detail, FORGED_AT_ONCE, Lost, ReceiveOutcome, SLOT, SendOutcome, Target, Unsent, UnsentReason, is_full,
    is_icmp,
};
use crate::batch::{Batch, Datagram};
use crate::net::addr::Addr;
use crate::net::socket::Socket;
use crate::net::socket::sock_addr;
use crate::stats::{Drops, IcmpError, MessageSize};

/// The most bytes that one call sends, so that a tool checks its signals in between.
const SENT_AT_ONCE: usize = 256 * 1024;
/// The most datagrams that one call sends.
const SLICES: usize = 4096;
/// The most messages that one call sends (sendmmsg(2) takes 1024).
const MESSAGES: usize = 512;
/// The same while none can be sent: the first group is known to be complete only if another follows it.
const FEW_MESSAGES: usize = 2;
/// The most segments of one message: `UDP_MAX_SEGMENTS` was 64 up to Linux 6.8.
const SEGMENTS: usize = 64;
/// The most messages that one call receives.
const SLOTS: usize = 32;

/// Sends batches from a socket that does not block.
#[derive(Debug)]
pub struct Sender {
    socket: SendSocket,
    /// Datagrams that are shorter than this are sent as segments. It is asked for when it is first needed.
    segmented_below: Option<usize>,
    /// How many messages are laid out for one call: few while none can be sent, because each call lays them out anew.
    messages_at_once: usize,
    groups: Vec<Group>,
    /// The addresses of the groups. Groups in a row that share them have one entry here.
    addresses: Vec<Addresses>,
    slices: Vec<iovec>,
    /// The names of their peers.
    names: Vec<Option<SockAddr>>,
    controls: Vec<SendControl>,
    messages: Vec<mmsghdr>,
}

/// Datagrams that one message carries: they have the same addresses and the same length, but for the last, which may be
/// shorter (`UDP_SEGMENT`, in udp(7)).
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// The place of its addresses.
    addresses: usize,
    /// The number of datagrams.
    len: usize,
    /// The length of the first, in bytes.
    size: usize,
    /// The length of all of them together, in bytes.
    bytes: usize,
}

/// The addresses that datagrams leave from and go to, where they are not those of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    source: Option<IpAddr>,
    peer: Option<Addr>,
}

impl Sender {
    /// Returns a sender on `socket`, which is connected or sends datagrams that have a destination.
    #[must_use]
    pub fn new(socket: &Rc<Socket>) -> Self {
        Self {
            socket: SendSocket::new(socket),
            segmented_below: None,
            messages_at_once: MESSAGES,
            groups: Vec::new(),
            addresses: Vec::new(),
            slices: Vec::new(),
            names: Vec::new(),
            controls: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose: a
    /// reply on a socket that is bound to every address leaves from the one that the request was sent to.
    pub fn use_source_address(&mut self) -> io::Result<()> {
        self.socket.use_source_address()
    }

    /// Sends one datagram, without waiting.
    pub fn send_one(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        self.socket.send_one(datagram)
    }

    /// Sends the datagrams of `batch` at `places` in order, without waiting. Stops at the first that cannot be sent.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_all(batch, places, Target::Destination)
    }

    /// Sends received datagrams back to their sources, as [`Sender::send`] does to their destinations.
    pub fn reply(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_all(batch, places, Target::Source)
    }

    fn send_all(&mut self, batch: &Batch, places: Range<usize>, target: Target) -> SendOutcome {
        if self.socket.socket.is_unix() {
            return self.socket.send_each(batch, places, target);
        }
        if let Err(error) = self.socket.watch_icmp_errors() {
            return SendOutcome::stopped_at(Unsent::at(batch, places.start, target, error.into()));
        }
        // A source that was refused in an earlier call may be an address of this machine by now.
        self.socket.refused_source = None;
        let mut outcome = SendOutcome::default();
        let mut next = places.start;
        while next < places.end && outcome.stopped.is_none() {
            let first = next;
            self.plan(batch, next..places.end, target);
            let planned = self.send_planned(batch, places.start, &mut outcome);
            next = places.start + outcome.sent;
            self.messages_at_once = if next > first { MESSAGES } else { FEW_MESSAGES };
            let failure = match planned {
                Ok(failure) => failure,
                Err(error) => {
                    outcome.stopped = Some(Unsent::at(batch, next, target, error.into()));
                    break;
                }
            };
            if next == first
                && let Some(datagram) = batch.part(next..next + 1).next()
            {
                // It is too long, or the kernel returns an error for it: it is sent by itself.
                let one = self.socket.send_towards(datagram, target);
                outcome.add(one);
                outcome.stopped = outcome.stopped.map(|unsent| self.extend_to_group(unsent));
                next = places.start + outcome.sent;
                // Where its source was refused, the next ones leave without it, in groups as before.
                if let Some(error) = failure
                    && self.socket.refused_source.is_none()
                {
                    self.give_up_segments(error);
                }
            }
        }
        outcome
    }

    /// Returns a descriptor to wait for as well, after a send that had no room: it is writable when there is some.
    #[must_use]
    pub fn full_peer(&self) -> Option<BorrowedFd<'_>> {
        self.socket.full_peer()
    }

    /// Asks the system to keep ICMP errors from now on, if it can: [`Sender::send`] and [`Sender::reply`] do it by
    /// themselves.
    pub fn watch_icmp_errors(&mut self) -> io::Result<()> {
        self.socket.watch_icmp_errors()
    }

    /// Returns the next ICMP error that is known by now, if there is one.
    pub fn take_icmp_error(&mut self) -> io::Result<Option<IcmpError>> {
        self.socket.take_icmp_error()
    }

    /// Keeps copies of all datagrams for a moment from now on: [`Sender::take_lost`] returns those that a router reports
    /// as unreachable, too.
    pub fn keep_all(&mut self) {
        self.socket.keep_all();
    }

    /// Takes the datagrams that were sent to the peer of `error` after those that it reports as unreachable.
    pub fn take_sent_to(&mut self, error: &IcmpError) -> Batch {
        self.socket.take_sent_to(error)
    }

    /// Takes the datagrams that are known to be lost because they were too big for their path. They are not among the
    /// ICMP errors: the caller may send them again, in fragments.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.socket.take_lost()
    }

    /// Notes that a receive on the socket has failed with `error`, which is the ICMP error of an earlier datagram:
    /// [`Sender::take_icmp_error`] returns it, once.
    pub fn note_icmp_error(&mut self, error: io::Error) {
        self.socket.note_icmp_error(error);
    }

    /// Groups the first of the datagrams at `places`, as many as one call may take.
    fn plan(&mut self, batch: &Batch, places: Range<usize>, target: Target) {
        self.groups.clear();
        self.addresses.clear();
        let segmented_below = self.segmented_below(places.len());
        let places = places.start..places.end.min(places.start + SLICES);
        let mut room = SENT_AT_ONCE;
        // The length that the next datagram of the last group may have at most: 0 if it takes none.
        let (mut group, mut takes) = (Group::default(), 0);
        'runs: for run in batch.runs_in(places) {
            let (from, peer) = target.addresses(run.envelope);
            // What goes to a unix socket leaves from another socket, by itself.
            if peer.is_some_and(Addr::is_unix) {
                break;
            }
            let largest = self.socket.largest(peer);
            let source = self.socket.source(from);
            let source = source.filter(|source| self.socket.refused_source != Some(*source));
            let addresses = Addresses { source, peer };
            if self.addresses.last() != Some(&addresses) {
                self.addresses.push(addresses);
                takes = 0;
            }
            let addresses = self.addresses.len() - 1;
            for size in run.lens() {
                if size > largest {
                    break 'runs;
                }
                let Some(left) = room.checked_sub(size) else { break 'runs };
                room = left;
                // An empty datagram is not a segment, and none follows a shorter one.
                if (1..=takes).contains(&size) && group.len < SEGMENTS && group.bytes + size <= largest {
                    takes = if size < group.size { 0 } else { takes };
                    group.len += 1;
                    group.bytes += size;
                } else {
                    self.groups.extend(Some(group).filter(|group| group.len > 0));
                    if self.groups.len() == self.messages_at_once {
                        return;
                    }
                    group = Group { addresses, len: 1, size, bytes: size };
                    takes = if size < segmented_below { size } else { 0 };
                }
            }
        }
        self.groups.extend(Some(group).filter(|group| group.len > 0));
    }

    /// Returns the length below which datagrams are segments: 0 if there is one datagram only, or no segmentation.
    fn segmented_below(&mut self, datagrams: usize) -> usize {
        if datagrams < 2 {
            return 0;
        }
        let probe = || if segments_sent(&self.socket.socket) { usize::MAX } else { 0 };
        *self.segmented_below.get_or_insert_with(probe)
    }

    /// Extends an error to all datagrams of the first group if nothing can be sent to its peer: to try each of many
    /// would take far longer.
    fn extend_to_group(&self, unsent: Unsent) -> Unsent {
        let datagrams = match (&unsent.why, self.groups.first()) {
            // Another source may do better for the next one.
            (UnsentReason::Os(error), Some(group))
                if self.addresses[group.addresses].source.is_none() && has_no_route(error) =>
            {
                group.len
            }
            _ => unsent.datagrams,
        };
        Unsent { datagrams, ..unsent }
    }

    /// If `error` means that the first group cannot be sent in one message, no such group is made again: none at
    /// all where the device cannot segment (EIO), has no room (ENOBUFS: some would be lost and some
    /// not) or a firewall, which takes it for one long packet, drops it (EPERM), and none of datagrams that
    /// are so long that a segment would not fit in a packet (EINVAL, EMSGSIZE).
    fn give_up_segments(&mut self, error: Errno) {
        if let Some(group) = self.groups.first().filter(|group| group.len > 1) {
            match error {
                Errno::EIO | Errno::ENOBUFS | Errno::EPERM => self.segmented_below = Some(0),
                Errno::EINVAL | Errno::EMSGSIZE => self.segmented_below = Some(group.size),
                _ => {}
            }
        }
    }

    /// Sends the groups, which were made of `batch`, and adds that to `outcome`, whose first datagram is at the place
    /// `start`, until the kernel returns an error for one. Returns that error. Fails where there is no room (`EAGAIN`).
    fn send_planned(
        &mut self,
        batch: &Batch,
        start: usize,
        outcome: &mut SendOutcome,
    ) -> io::Result<Option<Errno>> {
        self.lay_out(batch, start + outcome.sent);
        let mut done = 0;
        // An ICMP error that a call has returned: that of an earlier datagram, unless the group fails with it again.
        let (mut icmp_error, mut is_taken) = (None, false);
        while done < self.groups.len() {
            let sent = self.send_messages(batch, done);
            if let Some(earlier) = icmp_error.take_if(|error| sent != Err(*error))
                && !is_taken
            {
                self.socket.take_returned(vec![earlier.into()], &mut outcome.icmp_errors)?;
            }
            match sent {
                Ok(sent) => {
                    for (addresses, groups) in with_addresses(&self.groups[done..done + sent]) {
                        let (first, addresses) = (start + outcome.sent, &self.addresses[addresses]);
                        let datagrams = groups.iter().map(|group| group.len).sum();
                        let bytes = groups.iter().map(|group| group.bytes).sum();
                        outcome.count(datagrams, bytes, message_size(groups));
                        let largest = groups.iter().map(|group| group.size).max().unwrap_or(0);
                        let datagrams = batch.part(first..start + outcome.sent);
                        self.socket.note_sent(largest, addresses.peer, || addresses.from(), datagrams);
                    }
                    done += sent;
                    if done < self.groups.len() {
                        // The call stopped at an error of the next message, which the next call returns, or of an
                        // earlier datagram, which only the error queue reports.
                        self.socket.take_icmp_errors(&mut outcome.icmp_errors)?;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error @ Errno::EAGAIN) => {
                    // A wait for room would end at once at a socket with errors to report.
                    self.socket.take_icmp_errors(&mut outcome.icmp_errors)?;
                    return Err(error.into());
                }
                Err(error) if is_icmp(&error.into()) && icmp_error.is_none() => {
                    icmp_error = Some(error);
                    is_taken = self.socket.take_reported(&mut outcome.icmp_errors)?;
                }
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    /// Makes a message of each group. The groups are made of the datagrams of `batch` from the place `first` on.
    fn lay_out(&mut self, batch: &Batch, first: usize) {
        let datagrams: usize = self.groups.iter().map(|group| group.len).sum();
        self.slices.clear();
        self.slices.extend(
            batch.payloads(first..first + datagrams).map(|payload| iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            }),
        );
        self.names.clear();
        self.names.extend(self.addresses.iter().map(|addresses| {
            // Each peer has a name: `plan` made groups of those that the socket can send to.
            addresses.peer.and_then(|peer| sock_addr(self.socket.address_of(peer)).ok())
        }));
        // The messages and controls of earlier calls are used again.
        if self.messages.len() < self.groups.len() {
            self.messages.resize_with(self.groups.len(), empty_message);
            self.controls.resize_with(self.groups.len(), SendControl::new);
        }
        let mut slices = self.slices.as_mut_ptr();
        let mut messages = self.messages.iter_mut().zip(&mut self.controls);
        for (addresses, groups) in with_addresses(&self.groups) {
            let source = self.addresses[addresses].source;
            let (name, name_len) = match &self.names[addresses] {
                Some(name) => (name.as_ptr().cast_mut().cast(), name.len()),
                None => (ptr::null_mut(), 0),
            };
            for (group, (message, control)) in groups.iter().zip(&mut messages) {
                let header = &mut message.msg_hdr;
                (header.msg_name, header.msg_namelen) = (name, name_len);
                (header.msg_iov, header.msg_iovlen) = (slices, group.len as _);
                slices = slices.wrapping_add(group.len);
                // No datagram that is sent as a segment is longer than 65,535 bytes.
                control.set(source, (group.len > 1).then_some(group.size as u16));
                control.attach(header);
            }
        }
    }

    /// Sends the messages from the one at `first` on, which were made of the batch. Returns how many were sent.
    fn send_messages(&mut self, _: &Batch, first: usize) -> nix::Result<usize> {
        let messages = &mut self.messages[first..self.groups.len()];
        // SAFETY: the headers point to the names, slices and controls of `self`, which are as `lay_out`
        // has found them. The groups have as many datagrams as there are slices, and these point to
        // payloads in the batch that is borrowed.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as c_uint,
                libc::MSG_NOSIGNAL as _,
            )
        };
        Errno::result(sent).map(|sent| sent as usize)
    }
}

/// Returns how many datagrams the messages of these groups have. There is at least one group.
fn message_size(groups: &[Group]) -> MessageSize {
    let len = groups[0].len;
    let are_same = groups.iter().all(|group| group.len == len);
    if are_same { MessageSize::Same(len as u64) } else { MessageSize::Various }
}

/// Returns the `groups` in runs of those that share addresses, each with the place of those.
fn with_addresses(mut groups: &[Group]) -> impl Iterator<Item = (usize, &[Group])> {
    iter::from_fn(move || {
        let addresses = groups.first()?.addresses;
        // Addresses are in the order of their groups. Often all groups share them.
        let len = match groups.last() {
            Some(last) if last.addresses == addresses => groups.len(),
            _ => groups.iter().take_while(|group| group.addresses == addresses).count(),
        };
        let run;
        (run, groups) = groups.split_at(len);
        Some((addresses, run))
    })
}

/// Returns whether `error` means that no datagram at all can be sent to a peer.
fn has_no_route(error: &io::Error) -> bool {
    let errors = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN];
    error.raw_os_error().is_some_and(|number| errors.contains(&number))
}

impl Addresses {
    /// Returns the address that datagrams leave from.
    fn from(&self) -> Option<Addr> {
        self.source.map(|ip| Addr::Ip((ip.to_canonical(), 0).into()))
    }
}

/// Receives batches from a socket that does not block.
#[derive(Debug)]
pub struct Receiver {
    socket: ReceiveSocket,
    /// Whether it takes GRO batches, if that was decided: an older kernel has none, and delivers datagrams one by one.
    has_gro: Option<bool>,
    /// How many datagrams each message had since it takes GRO batches.
    message_size: MessageSize,
}

thread_local! {
    /// What many datagrams are received into. It means something during a call only, so all receivers share it.
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// Room for as many messages as one call receives, each with space for any datagram or GRO batch.
#[derive(Debug)]
struct Ring {
    slots: Vec<u8>,
    /// As long as the longest of the addresses of IP.
    names: Vec<sockaddr_in6>,
    controls: Vec<ControlBuffer<RECEIVED>>,
    slices: Vec<iovec>,
    messages: Vec<mmsghdr>,
}

/// What a slot has received: one datagram or a GRO batch.
struct Message<'r> {
    bytes: &'r [u8],
    /// The length of each datagram in it but the last, which may be shorter, in bytes.
    size: usize,
}

impl Receiver {
    /// Returns a receiver on `socket` that truncates datagrams to `max_size` bytes and puts `detail` on their
    /// envelopes. Fails where the system does not report that.
    pub fn new(socket: &Rc<Socket>, max_size: Option<usize>, detail: Detail) -> io::Result<Self> {
        Ok(Self {
            socket: ReceiveSocket::new(socket, max_size, detail)?,
            has_gro: None,
            message_size: MessageSize::Unknown,
        })
    }

    /// Takes GRO batches from now on. [`Receiver::receive`] does so when it is first asked for more than one datagram, but
    /// then does not know how many datagrams were in what was dropped before.
    pub fn take_batches(&mut self) {
        let has_gro = setsockopt(&*self.socket.socket, sockopt::UdpGroSegment, &true).is_ok();
        self.has_gro = Some(has_gro);
    }

    /// Appends datagrams that have arrived to `batch`, without waiting, until it has `limit` more or is full. The last
    /// GRO batch is appended as a whole, even beyond the limit: the caller may leave out some of the datagrams.
    ///
    /// A socket that reports ICMP errors returns each once, as an error: a refusal is of the kind `ConnectionRefused`.
    /// What arrived before it is in the batch.
    pub fn receive(&mut self, batch: &mut Batch, limit: usize) -> ReceiveOutcome {
        if limit == 1 && self.has_gro.is_none() || self.socket.socket.is_unix() {
            return self.socket.receive(batch, limit);
        }
        if self.has_gro.is_none() {
            self.take_batches();
            self.message_size = MessageSize::Same(1);
        }
        RING.with_borrow_mut(|ring| self.receive_into(ring.get_or_insert_with(Ring::new), batch, limit))
    }

    /// Appends datagrams to `batch` as [`Receiver::receive`] does, through `ring`.
    fn receive_into(&mut self, ring: &mut Ring, batch: &mut Batch, limit: usize) -> ReceiveOutcome {
        let mut outcome = ReceiveOutcome::default();
        let enough = batch.len().saturating_add(limit);
        while batch.len() < enough && outcome.forged < FORGED_AT_ONCE && !is_full(batch) {
            let wanted = (enough - batch.len()).min(SLOTS);
            let received = match ring.receive(&self.socket.socket, wanted) {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => break,
                Err(error) => {
                    outcome.error = Some(error.into());
                    break;
                }
            };
            let ancillary = &self.socket.ancillary;
            // Whether the envelope of the batch is that of the slot before.
            let mut is_known = false;
            for slot in 0..received {
                let control = ring.control(slot);
                let message = ring.message(slot, &control);
                self.message_size = self.message_size.and(MessageSize::Same(message.len()));
                if !(is_known && ring.has_source_of_last(slot)) {
                    let Some(envelope) = ancillary.envelope(ring.source(slot), &control) else {
                        outcome.forged += message.len();
                        is_known = false;
                        continue;
                    };
                    batch.address(envelope);
                    is_known = ancillary.is_of_source_alone();
                }
                message.unpack(batch, self.socket.max_size);
            }
            if received < wanted {
                break;
            }
        }
        if is_full(batch) {
            self.socket.drops.read();
        }
        outcome
    }

    /// Returns what the kernel has dropped since this was last called.
    pub fn drops(&mut self) -> Drops {
        let size = if self.has_gro == Some(true) { self.message_size } else { MessageSize::Same(1) };
        self.socket.drops.report(size)
    }
}

impl Ring {
    fn new() -> Self {
        let mut ring = Self {
            slots: vec![0; SLOTS * SLOT],
            names: vec![no_name(); SLOTS],
            controls: vec![ControlBuffer::new(); SLOTS],
            slices: Vec::with_capacity(SLOTS),
            messages: Vec::with_capacity(SLOTS),
        };
        for slot in 0..SLOTS {
            let iov_base = ring.slots.as_mut_ptr().wrapping_add(slot * SLOT).cast();
            ring.slices.push(iovec { iov_base, iov_len: SLOT });
            let mut message = empty_message();
            message.msg_hdr.msg_name = ring.names.as_mut_ptr().wrapping_add(slot).cast();
            message.msg_hdr.msg_iov = ring.slices.as_mut_ptr().wrapping_add(slot);
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = ring.controls.as_mut_ptr().wrapping_add(slot).cast();
            ring.messages.push(message);
        }
        ring
    }

    /// Receives what has arrived, without waiting, into the first of the slots: at most `most`. Returns their number.
    fn receive(&mut self, socket: &Socket, most: usize) -> nix::Result<usize> {
        let messages = &mut self.messages[..most];
        for message in &mut *messages {
            // The kernel has left here how much it wrote.
            message.msg_hdr.msg_namelen = size_of::<sockaddr_in6>() as socklen_t;
            message.msg_hdr.msg_controllen = RECEIVED as _;
        }
        // SAFETY: each header points to a name, a slice, a slot and a control of this ring, with their
        // true lengths. None of these vectors has grown or moved its elements since `new`.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        Errno::result(received).map(|received| received as usize)
    }

    /// Returns what the last call has received into `slot`, with these control messages.
    fn message(&self, slot: usize, control: &ControlMessages) -> Message<'_> {
        let start = slot * SLOT;
        let bytes = &self.slots[start..start + self.messages[slot].msg_len as usize];
        Message { bytes, size: control.segment.unwrap_or(SLOT) }
    }

    fn control(&self, slot: usize) -> ControlMessages {
        ControlMessages::of(&self.messages[slot].msg_hdr)
    }

    fn source(&self, slot: usize) -> Option<Addr> {
        address(&self.names[slot])
    }

    /// Returns whether the sources of `slot` and of the one before are known to be the same.
    fn has_source_of_last(&self, slot: usize) -> bool {
        let fields = |name: &sockaddr_in6| {
            let sockaddr_in6 { sin6_family, sin6_port, sin6_flowinfo, sin6_addr, sin6_scope_id, .. } = *name;
            (sin6_family, sin6_port, sin6_flowinfo, u128::from_ne_bytes(sin6_addr.s6_addr), sin6_scope_id)
        };
        // Behind an IPv4 address may be what the kernel has left there earlier: then they are taken to differ.
        fields(&self.names[slot - 1]) == fields(&self.names[slot])
    }
}

impl Message<'_> {
    /// Returns the number of datagrams. An empty one counts as well.
    fn len(&self) -> u64 {
        self.bytes.len().div_ceil(self.size).max(1) as u64
    }

    /// Appends the datagrams to `batch`, each truncated to `max_size`.
    fn unpack(&self, batch: &mut Batch, max_size: usize) {
        batch.spare(self.bytes.len())[..self.bytes.len()].copy_from_slice(self.bytes);
        batch.take_segments(self.bytes.len(), self.size, max_size);
    }
}

/// Returns whether a receiver of many datagrams on `socket` may get several as one GRO batch.
#[must_use]
pub fn segments_received(socket: &Socket) -> bool {
    getsockopt(socket, sockopt::UdpGroSegment).is_ok()
}

/// Returns whether a sender of many datagrams on `socket` may send several as the segments of one message.
#[must_use]
pub fn segments_sent(socket: &Socket) -> bool {
    getsockopt(socket, sockopt::UdpGsoSegment).is_ok()
}

fn empty_message() -> mmsghdr {
    mmsghdr { msg_hdr: empty_header(), msg_len: 0 }
}
