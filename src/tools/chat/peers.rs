//! What a typed line means, and which peers it goes to.
//!
//! It knows no terminal and no socket, and looks no name up by itself.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

use crate::batch::Envelope;
use crate::escape;
use crate::net::addr::Addr;
use crate::net::endpoint::Endpoint;

/// How many peers are remembered with the address that they have sent to.
const REMEMBERED: usize = 4096;

/// A typed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'l> {
    /// A text for all peers.
    Text(&'l [u8]),
    /// `@HOST:PORT text`: a text for this peer alone.
    TextTo(Endpoint, &'l [u8]),
    /// `@HOST:PORT`: makes this the only peer.
    Choose(Endpoint),
}

/// Parses a line. `@@` begins a text that begins with `@`.
pub fn parse(line: &[u8]) -> Result<Line<'_>> {
    let Some(addressed) = line.strip_prefix(b"@") else {
        return Ok(Line::Text(line));
    };
    if addressed.starts_with(b"@") {
        return Ok(Line::Text(addressed));
    }
    let end = addressed.iter().position(u8::is_ascii_whitespace).unwrap_or(addressed.len());
    let name = String::from_utf8_lossy(&addressed[..end]);
    let endpoint = Endpoint::remote(&name).map_err(|why| {
        let peer = escape::quoted(&line[..=end]);
        anyhow!(
            "invalid peer {peer}: {why}; @HOST:PORT TEXT sends, @HOST:PORT chooses, @@ begins a text with @"
        )
    })?;
    Ok(match &addressed[end..] {
        // Input from Windows ends its lines in a carriage return as well.
        b"" | b"\r" => Line::Choose(endpoint),
        text => Line::TextTo(endpoint, &text[1..]),
    })
}

/// The peers that a text goes to. If there are none, the first that sends or is addressed becomes the peer.
#[derive(Clone, Debug)]
pub struct Peers(Vec<Addr>);

/// Where a line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'l> {
    /// This text goes to these peers.
    Send(&'l [u8], Vec<Addr>),
    /// The line has chosen another peer, and goes nowhere.
    Chosen,
}

/// The addresses of this machine that peers have sent to. What is sent to a peer leaves from the last of them: the peer
/// may ignore a datagram from another one.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<Addr, Addr>);

impl Sources {
    /// Notes that `peer` has sent to `own`.
    pub fn note(&mut self, peer: Addr, own: Addr) {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&peer) {
            self.0.clear();
        }
        self.0.insert(peer, own);
    }

    /// Returns the envelope of a datagram to `peer`.
    #[must_use]
    pub fn envelope(&self, peer: Addr) -> Envelope {
        Envelope { from: self.0.get(&peer).copied(), ..Envelope::to_peer(peer) }
    }
}

impl Peers {
    /// Creates the peers of a command line.
    #[must_use]
    pub fn new(peers: Vec<Addr>) -> Self {
        Self(peers)
    }

    /// Returns where `line` goes, and takes over the peer that it chooses. `resolve` looks an endpoint up.
    pub fn route<'l>(
        &mut self,
        line: &'l [u8],
        resolve: impl FnOnce(&Endpoint) -> Result<Addr>,
    ) -> Result<Route<'l>> {
        match parse(line)? {
            Line::Text(_) if self.0.is_empty() => {
                bail!("there is nobody to talk to yet; write @HOST:PORT TEXT")
            }
            Line::Text(text) => Ok(Route::Send(text, self.0.clone())),
            Line::TextTo(peer, text) => {
                let address = resolve(&peer)?;
                self.add_first(address);
                Ok(Route::Send(text, vec![address]))
            }
            Line::Choose(peer) => {
                self.0 = vec![resolve(&peer)?];
                Ok(Route::Chosen)
            }
        }
    }

    /// Adds `peer` if there are no peers. Returns whether it was added.
    pub fn add_first(&mut self, peer: Addr) -> bool {
        let is_first = self.0.is_empty();
        if is_first {
            self.0.push(peer);
        }
        is_first
    }

    /// Returns the addresses of the peers.
    #[must_use]
    pub fn addresses(&self) -> &[Addr] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::endpoint::Family;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::remote(text).unwrap()
    }

    #[test]
    fn a_line_is_a_text_for_all_or_one_or_chooses_a_peer() {
        assert_eq!(parse(b"hi @all").unwrap(), Line::Text(b"hi @all"));
        assert_eq!(parse(b"").unwrap(), Line::Text(b""));
        assert_eq!(parse(b"@@home").unwrap(), Line::Text(b"@home"));
        assert_eq!(parse(b"@[::1]:5 a b").unwrap(), Line::TextTo(endpoint("[::1]:5"), b"a b"));
        assert_eq!(parse(b"@:5 ").unwrap(), Line::TextTo(endpoint(":5"), b""));
        assert_eq!(parse(b"@host:5").unwrap(), Line::Choose(endpoint("host:5")));
        assert_eq!(parse(b"@host:5\r").unwrap(), Line::Choose(endpoint("host:5")));
    }

    #[test]
    fn an_invalid_peer_is_explained_with_the_syntax() {
        assert_eq!(
            format!("{:#}", parse(b"@bob hi").unwrap_err()),
            "invalid peer '@bob': no port; write bob:PORT; @HOST:PORT TEXT sends, @HOST:PORT chooses, @@ begins a text \
             with @"
        );
    }

    #[test]
    fn the_first_peer_that_is_addressed_stays_until_another_is_chosen() {
        let mut peers = Peers::new(Vec::new());
        let mut route = |line: &'static str| {
            peers.route(line.as_bytes(), |peer| Ok(peer.addresses_there(Family::Any)?[0]))
        };
        assert!(route("hi").is_err());
        let send = |text, port| Route::Send(text, vec![format!("127.0.0.1:{port}").parse().unwrap()]);
        assert_eq!(route("@127.0.0.1:1 a").unwrap(), send(b"a", 1));
        assert_eq!(route("@127.0.0.1:2 b").unwrap(), send(b"b", 2));
        assert_eq!(route("c").unwrap(), send(b"c", 1));
        assert_eq!(route("@127.0.0.1:2").unwrap(), Route::Chosen);
        assert_eq!(route("d").unwrap(), send(b"d", 2));
    }
}
