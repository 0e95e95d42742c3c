//! The peers of a chat, and which of them a plain line goes to.
//!
//! A peer is whoever the user has named, or has sent something. Each has a number, which is not given twice, and a name
//! if the user gives it one. It knows no terminal and no socket, and looks no name up.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail, ensure};

use super::charsets::PeerCharset;
use crate::batch::Envelope;
use crate::escape;
use crate::net::addr::Addr;
use crate::net::endpoint::Endpoint;

/// The most peers that are remembered because they have sent something. Of more, the first is forgotten: anybody can
/// forge a million source addresses.
const STRANGERS: usize = 4096;
/// Words that the chat itself prints or reads in place of the name of a peer.
const RESERVED: [&str; 4] = ["you", "all", "nobody", "waiting"];
/// The longest name, in characters.
const LONGEST_NAME: usize = 32;

/// The peers of a chat.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_address: BTreeMap<Addr, Peer>,
    by_number: BTreeMap<u32, Addr>,
    /// Those that the user has not named, in the order in which they first sent something.
    strangers: VecDeque<Addr>,
    /// The number of the last one.
    last_number: u32,
    target: Target,
    /// Who has sent last.
    last: Option<Addr>,
    /// Who has sent something to us alone for the first time since the last line, and plain lines do not go there.
    unanswered: Option<Addr>,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its number, from 1.
    pub(super) number: u32,
    /// What the user calls it.
    pub(super) name: Option<String>,
    /// The address of this machine that it has sent to. What is sent to the peer leaves from there: it may ignore a
    /// datagram from another one.
    own: Option<Addr>,
    /// Whether the user has named it, or sent to it.
    pub(super) is_chosen: bool,
    /// Whether it has sent something to a room: what is sent there reaches it.
    is_in_room: bool,
    /// Its charset.
    pub(super) charset: PeerCharset,
    /// Whether the user knows that it sends bytes that are not UTF-8.
    pub(super) is_hinted: bool,
}

/// Whom something was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// To us, and there is no room.
    Us,
    /// To us alone, and not to a room.
    UsBesideRoom,
    /// To all in a room.
    Room,
}

/// Whom plain lines go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Target {
    /// Nobody yet: the first peer is chosen.
    #[default]
    Nobody,
    /// This peer.
    One(Addr),
    /// All that the user has chosen.
    All,
}

impl Peers {
    /// Creates the peers of a command line. Plain lines go to all of them.
    pub(super) fn new(addresses: &[Addr]) -> Self {
        let mut peers = Self::default();
        for address in addresses {
            peers.choose(*address);
        }
        if peers.by_number.len() > 1 {
            peers.target = Target::All;
        }
        peers
    }

    /// Notes that the peer on `envelope` has sent something, to us alone or to a room. Returns whether it is now the one
    /// that plain lines go to, because there was none.
    pub(super) fn note(&mut self, envelope: &Envelope, to: Audience) -> bool {
        let Some(address) = envelope.from else { return false };
        let is_new = !self.by_address.contains_key(&address);
        let peer = self.get_or_enter(address);
        if envelope.to.is_some() {
            peer.own = envelope.to;
        }
        peer.is_in_room |= to == Audience::Room;
        if is_new {
            self.strangers.push_back(address);
            self.forget_strangers();
        }
        self.last = Some(address);
        let is_first = self.target == Target::Nobody;
        if is_first {
            self.choose(address);
        } else if to == Audience::UsBesideRoom || (is_new && to == Audience::Us) {
            self.unanswered = Some(address).filter(|address| self.target != Target::One(*address));
        }
        is_first
    }

    /// Makes `address` the one that plain lines go to.
    pub(super) fn choose(&mut self, address: Addr) {
        self.mark_chosen(address);
        self.target = Target::One(address);
        self.unanswered = None;
    }

    /// Makes plain lines go to all peers that the user has chosen. Returns whether there are any.
    pub(super) fn choose_all(&mut self) -> bool {
        let is_any = self.chosen().next().is_some();
        if is_any {
            self.target = Target::All;
            self.unanswered = None;
        }
        is_any
    }

    /// Notes that the user has sent something to `address`, which is chosen if there was nobody.
    pub(super) fn note_sent(&mut self, address: Addr) {
        self.mark_chosen(address);
        if self.target == Target::Nobody {
            self.choose(address);
        }
        if self.unanswered == Some(address) {
            self.unanswered = None;
        }
    }

    /// Calls the peer `address` by `name` from now on.
    pub(super) fn name(&mut self, address: Addr, name: &str) -> Result<()> {
        let shown = || escape::quoted(name.as_bytes());
        ensure!(name.chars().count() <= LONGEST_NAME, "{} is longer than {LONGEST_NAME} characters", shown());
        ensure!(
            !name.chars().any(|c| escape::is_unsafe(c) || c.is_whitespace() || ":,<>".contains(c)),
            "{} is not a name; it has none of : , < > and no control characters",
            shown()
        );
        ensure!(
            !RESERVED.contains(&&*name.to_lowercase()),
            "{} is not a name; the chat uses that word itself",
            shown()
        );
        ensure!(name.parse::<u32>().is_err(), "{name} is a number; a name has letters");
        ensure!(
            !name.starts_with(['/', '@']) && !name.is_empty(),
            "{} is not a name; it does not begin with / or @",
            shown()
        );
        if let Some(other) = self.called(name).filter(|other| *other != address) {
            bail!("{other} is already called {name}");
        }
        self.mark_chosen(address).name = Some(name.to_owned());
        Ok(())
    }

    /// Returns the known peer that `word` means: its number, its name or its address.
    ///
    /// # Errors
    ///
    /// Returns an endpoint to be looked up if it means one.
    pub(super) fn find(&self, word: &str) -> Result<Result<Addr, Endpoint>> {
        if let Ok(number) = word.parse() {
            return match self.by_number.get(&number) {
                Some(address) => Ok(Ok(*address)),
                None => bail!("no peer {number}; write a name or HOST:PORT"),
            };
        }
        if let Some(address) = self.called(word) {
            return Ok(Ok(address));
        }
        match Endpoint::remote(word) {
            Ok(endpoint) => Ok(Err(endpoint)),
            Err(why) => bail!("invalid peer {}: {why}", escape::quoted(word.as_bytes())),
        }
    }

    /// Returns the addresses that a plain line goes to.
    pub(super) fn targets(&self) -> Vec<Addr> {
        match self.target {
            Target::Nobody => Vec::new(),
            Target::One(address) => vec![address],
            Target::All => self.chosen().collect(),
        }
    }

    /// Returns who has sent last.
    pub(super) fn last(&self) -> Option<Addr> {
        self.last
    }

    /// Returns who has sent something for the first time since the last line, if plain lines do not go there.
    pub(super) fn unanswered(&self) -> Option<(u32, Addr)> {
        let address = self.unanswered?;
        Some((self.by_address.get(&address)?.number, address))
    }

    /// Forgets whom [`Peers::unanswered`] returns: a plain line was written, which is not for that peer.
    pub(super) fn note_line(&mut self) {
        self.unanswered = None;
    }

    /// Returns the peer of `address`, if it is known.
    pub(super) fn get(&self, address: Addr) -> Option<&Peer> {
        self.by_address.get(&address)
    }

    /// Returns all peers, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Addr, &Peer)> {
        self.by_number.values().filter_map(|address| Some((*address, self.by_address.get(address)?)))
    }

    /// Returns all peers, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_address.values_mut()
    }

    /// Returns the name of the peer, or else its address.
    pub(super) fn label(&self, address: Addr) -> String {
        let name = self.get(address).and_then(|peer| peer.name.clone());
        name.unwrap_or_else(|| address.to_string())
    }

    /// Returns the word by which each peer is completed: its name, or else its address.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        self.iter().map(|(address, _)| self.label(address))
    }

    /// Returns the envelope of a datagram to `peer`.
    pub(super) fn envelope(&self, peer: Addr) -> Envelope {
        Envelope { from: self.get(peer).and_then(|peer| peer.own), ..Envelope::to_peer(peer) }
    }

    /// Returns how many peers a line for all goes to, if plain lines go to all.
    pub(super) fn all(&self) -> Option<usize> {
        (self.target == Target::All).then(|| self.chosen().count())
    }

    /// Returns those that the user has chosen, by number. What is sent to a room reaches those in it.
    fn chosen(&self) -> impl Iterator<Item = Addr> {
        self.iter().filter(|(_, peer)| peer.is_chosen && !peer.is_in_room).map(|(address, _)| address)
    }

    fn called(&self, name: &str) -> Option<Addr> {
        let name = name.to_lowercase();
        let is_called = |peer: &Peer| peer.name.as_ref().is_some_and(|other| other.to_lowercase() == name);
        self.iter().find(|(_, peer)| is_called(peer)).map(|(address, _)| address)
    }

    fn mark_chosen(&mut self, address: Addr) -> &mut Peer {
        let peer = self.get_or_enter(address);
        peer.is_chosen = true;
        peer
    }

    /// Returns the peer of `address`, which is new if it is not known.
    pub(super) fn get_or_enter(&mut self, address: Addr) -> &mut Peer {
        let (by_number, last_number) = (&mut self.by_number, &mut self.last_number);
        self.by_address.entry(address).or_insert_with(|| {
            *last_number += 1;
            by_number.insert(*last_number, address);
            Peer {
                number: *last_number,
                name: None,
                own: None,
                is_chosen: false,
                is_in_room: false,
                charset: PeerCharset::default(),
                is_hinted: false,
            }
        })
    }

    /// Forgets the first of too many strangers.
    fn forget_strangers(&mut self) {
        while self.strangers.len() > STRANGERS
            && let Some(first) = self.strangers.pop_front()
        {
            if let Some(peer) = self.by_address.get(&first).filter(|peer| !peer.is_chosen) {
                self.by_number.remove(&peer.number);
                self.by_address.remove(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u32) -> Addr {
        let [_, high, middle, low] = port.to_be_bytes();
        format!("127.{high}.{middle}.{low}:9").parse().unwrap()
    }

    fn note(peers: &mut Peers, port: u32) -> bool {
        peers.note(&Envelope::from_peer(address(port)), Audience::Us)
    }

    #[test]
    fn plain_lines_go_to_the_named_peers_or_to_the_first_that_sends_or_is_sent_to() {
        let mut peers = Peers::new(&[]);
        assert_eq!(peers.targets(), []);
        assert!(note(&mut peers, 1) && !note(&mut peers, 2));
        assert_eq!(peers.targets(), [address(1)]);
        let mut peers = Peers::new(&[]);
        peers.note_sent(address(3));
        peers.note_sent(address(4));
        assert_eq!(peers.targets(), [address(3)]);
        let mut peers = Peers::new(&[address(5), address(6)]);
        assert!(!note(&mut peers, 7));
        assert_eq!(peers.targets(), [address(5), address(6)]);
        peers.choose(address(7));
        assert_eq!(peers.targets(), [address(7)]);
        assert!(peers.choose_all());
        assert_eq!(peers.targets(), [address(5), address(6), address(7)]);
        assert!(!Peers::new(&[]).choose_all());
    }

    #[test]
    fn a_new_peer_is_unanswered_until_a_line_or_a_choice() {
        let mut peers = Peers::new(&[address(1)]);
        note(&mut peers, 1);
        assert_eq!(peers.unanswered(), None);
        note(&mut peers, 2);
        assert_eq!(peers.unanswered(), Some((2, address(2))));
        peers.note_line();
        note(&mut peers, 2);
        assert_eq!(peers.unanswered(), None);
        note(&mut peers, 3);
        peers.choose(address(3));
        assert_eq!(peers.unanswered(), None);
        assert_eq!(peers.last(), Some(address(3)));
    }

    #[test]
    fn a_peer_is_found_by_its_number_its_name_and_its_address() {
        let mut peers = Peers::new(&[address(1)]);
        note(&mut peers, 2);
        peers.name(address(2), "bob").unwrap();
        for word in ["2", "bob"] {
            assert_eq!(peers.find(word).unwrap(), Ok(address(2)), "{word}");
        }
        assert_eq!(peers.label(address(2)), "bob");
        assert_eq!(peers.label(address(1)), "127.0.0.1:9");
        assert!(peers.find("127.0.0.2:9").unwrap().is_err());
        assert_eq!(peers.find("3").unwrap_err().to_string(), "no peer 3; write a name or HOST:PORT");
        assert_eq!(peers.find("eve").unwrap_err().to_string(), "invalid peer 'eve': no port; write eve:PORT");
        peers.name(address(2), "eve").unwrap();
        assert!(peers.find("eve").unwrap().is_ok() && peers.find("bob").is_err());
    }

    #[test]
    fn a_name_is_one_word_that_means_one_peer() {
        let mut peers = Peers::new(&[address(1), address(2)]);
        peers.name(address(1), "你好").unwrap();
        let long = "x".repeat(33);
        for name in
            ["", "7", "/to", "@x", "a b", "a:1", "a,b", "You", "all", "\x1b[2J", "a\u{202e}", "你好", &long]
        {
            assert!(peers.name(address(2), name).is_err(), "{name:?}");
        }
        peers.name(address(1), "你好").unwrap();
    }

    #[test]
    fn a_line_for_all_goes_to_a_room_and_not_once_more_to_those_in_it() {
        let mut peers = Peers::new(&[address(1)]);
        peers.note(&Envelope::from_peer(address(2)), Audience::Room);
        assert_eq!(peers.unanswered(), None);
        peers.note(&Envelope::from_peer(address(2)), Audience::UsBesideRoom);
        assert_eq!(peers.unanswered(), Some((2, address(2))));
        peers.choose(address(2));
        assert!(peers.choose_all());
        assert_eq!(peers.targets(), [address(1)]);
    }

    #[test]
    fn a_million_strangers_take_no_more_memory_than_a_few_thousand_and_chosen_peers_stay() {
        let mut peers = Peers::new(&[address(0)]);
        note(&mut peers, 1);
        note(&mut peers, 2);
        peers.name(address(2), "bob").unwrap();
        for number in 3..1_000_000 {
            note(&mut peers, number);
        }
        assert_eq!(peers.by_address.len(), STRANGERS + 2);
        assert_eq!((peers.by_number.len(), peers.strangers.len()), (STRANGERS + 2, STRANGERS));
        assert!(peers.get(address(1)).is_none() && peers.get(address(0)).is_some());
        assert_eq!(peers.find("bob").unwrap(), Ok(address(2)));
        // Their numbers are not given to others.
        assert_eq!(peers.find("1000000").unwrap(), Ok(address(999_999)));
    }

    #[test]
    fn a_datagram_leaves_from_the_address_that_its_peer_has_sent_to() {
        let mut peers = Peers::new(&[]);
        let own = address(9);
        peers.note(&Envelope { to: Some(own), ..Envelope::from_peer(address(1)) }, Audience::Us);
        note(&mut peers, 1);
        assert_eq!(peers.envelope(address(1)).from, Some(own));
        assert_eq!(peers.envelope(address(2)).from, None);
    }
}
