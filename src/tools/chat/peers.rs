//! The conversation: what a typed line means, and who it goes to.
//!
//! It knows no terminal and no socket: the tool moves the bytes.

use std::net::SocketAddr;

use anyhow::{Result, anyhow, bail};

use crate::escape;
use crate::net::endpoint::{Endpoint, Family};

/// What a person means by a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'l> {
    /// A text for whoever is talked to.
    Text(&'l [u8]),
    /// `@HOST:PORT text`: for that one alone.
    TextTo(Endpoint, &'l [u8]),
    /// `@HOST:PORT`: talk to that one from now on.
    TalkTo(Endpoint),
}

/// Reads a line. `@@` stands for a text that begins with `@`.
pub fn understand(line: &[u8]) -> Result<Said<'_>> {
    let Some(addressed) = line.strip_prefix(b"@") else {
        return Ok(Said::Text(line));
    };
    if addressed.starts_with(b"@") {
        return Ok(Said::Text(addressed));
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
        b"" | b"\r" => Said::TalkTo(endpoint),
        text => Said::TextTo(endpoint, &text[1..]),
    })
}

/// Who a plain line goes to.
#[derive(Clone, Debug)]
pub struct Company {
    family: Family,
    peers: Vec<SocketAddr>,
}

impl Company {
    /// The peers of the command line, who may be none: then the first who is heard or addressed
    /// becomes the peer.
    #[must_use]
    pub fn of(peers: Vec<SocketAddr>, family: Family) -> Self {
        Self { family, peers }
    }

    /// Which versions of IP are spoken.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Where a line goes, and what of it. A line that only chooses a peer goes nowhere. An endpoint is looked up by
    /// `resolve`.
    pub fn route<'l>(
        &mut self,
        line: &'l [u8],
        resolve: impl FnOnce(&Endpoint) -> Result<SocketAddr>,
    ) -> Result<(&'l [u8], Vec<SocketAddr>)> {
        match understand(line)? {
            Said::Text(_) if self.peers.is_empty() => {
                bail!("there is nobody to talk to yet; write @HOST:PORT TEXT")
            }
            Said::Text(text) => Ok((text, self.peers.clone())),
            Said::TextTo(peer, text) => {
                let address = resolve(&peer)?;
                self.meet(address);
                Ok((text, vec![address]))
            }
            Said::TalkTo(peer) => {
                self.peers = vec![resolve(&peer)?];
                Ok((b"", Vec::new()))
            }
        }
    }

    /// Makes `peer` the one who is talked to, where there is nobody. Says whether that is new.
    pub fn meet(&mut self, peer: SocketAddr) -> bool {
        let alone = self.peers.is_empty();
        if alone {
            self.peers.push(peer);
        }
        alone
    }

    /// Who is talked to.
    #[must_use]
    pub fn peers(&self) -> &[SocketAddr] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::remote(text).unwrap()
    }

    #[test]
    fn a_line_says_who_it_is_for() {
        assert_eq!(understand(b"hi @all").unwrap(), Said::Text(b"hi @all"));
        assert_eq!(understand(b"").unwrap(), Said::Text(b""));
        assert_eq!(understand(b"@@home").unwrap(), Said::Text(b"@home"));
        assert_eq!(understand(b"@[::1]:5 a b").unwrap(), Said::TextTo(endpoint("[::1]:5"), b"a b"));
        assert_eq!(understand(b"@:5 ").unwrap(), Said::TextTo(endpoint(":5"), b""));
        assert_eq!(understand(b"@host:5").unwrap(), Said::TalkTo(endpoint("host:5")));
        assert_eq!(understand(b"@host:5\r").unwrap(), Said::TalkTo(endpoint("host:5")));
    }

    #[test]
    fn what_is_not_understood_is_said_with_the_way_out() {
        assert_eq!(
            format!("{:#}", understand(b"@bob hi").unwrap_err()),
            "invalid peer '@bob': no port; write bob:PORT; @HOST:PORT TEXT sends, @HOST:PORT chooses, @@ begins a text \
             with @"
        );
    }

    #[test]
    fn the_first_who_is_addressed_is_talked_to_until_another_is_chosen() {
        let mut company = Company::of(Vec::new(), Family::Any);
        let mut route = |line: &'static str| {
            company.route(line.as_bytes(), |peer| Ok(peer.addresses_there(Family::Any)?[0]))
        };
        assert!(route("hi").is_err());
        let to = |port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
        assert_eq!(route("@127.0.0.1:1 a").unwrap(), (&b"a"[..], to(1)));
        assert_eq!(route("@127.0.0.1:2 b").unwrap(), (&b"b"[..], to(2)));
        assert_eq!(route("c").unwrap(), (&b"c"[..], to(1)));
        assert_eq!(route("@127.0.0.1:2").unwrap(), (&b""[..], vec![]));
        assert_eq!(route("d").unwrap(), (&b"d"[..], to(2)));
    }
}
