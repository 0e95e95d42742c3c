//! The destination of a datagram that was read from a format that has addresses.

use std::collections::HashMap;
use std::fmt;

use super::ReadError;
use crate::escape;
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};

/// The number of destinations that are remembered.
const REMEMBERED: usize = 4096;

/// What is done with the addresses of a record.
#[derive(Clone, Debug, Default)]
pub enum To {
    /// All datagrams go to one peer: a record may not have a destination of its own.
    #[default]
    OnePeer,
    /// A datagram goes to its own destination, or to this one if it has none.
    ///
    /// A record with a source (`from`) was received at its destination and is not sent there again: it goes to this
    /// one too, if there is one.
    Each(Option<Addr>, Family),
    /// A datagram goes to its own destination. If it has none, or was received, it goes to the peers of a chat.
    Peers(Family),
    /// A datagram goes to its own destination, and must have one: it is a reply.
    Clients(Family),
    /// All datagrams go to one server, each for a client: its record must name that as its source.
    Server,
}

/// The addresses of the destinations that records have named.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<String, Addr>,
    /// The last of them that was needed: many records follow with the same.
    last: Option<(String, Addr)>,
    /// The destination that must be looked up.
    wanted: String,
    /// A destination that has no address, and why. It is looked up again for the next record.
    failed: Option<(String, String)>,
}

impl To {
    /// Returns the destination of a record that has an address of its `own`, and perhaps `was_received`. `None` is
    /// the one peer.
    pub(super) fn choose<E: From<String>>(
        &self,
        own: Option<impl FnOnce(Family) -> Result<Addr, E>>,
        was_received: bool,
    ) -> Result<Option<Addr>, E> {
        match (self, own) {
            (Self::OnePeer, Some(_)) if !was_received => {
                Err("\"to\" has no effect with one ENDPOINT for all; leave it out".to_owned().into())
            }
            (Self::OnePeer | Self::Server, _) | (Self::Peers(_), None) => Ok(None),
            (Self::Peers(_), _) if was_received => Ok(None),
            (Self::Each(Some(there), _), own) if was_received || own.is_none() => Ok(Some(*there)),
            (Self::Each(_, family) | Self::Peers(family) | Self::Clients(family), Some(own)) => {
                own(*family).map(Some)
            }
            (Self::Each(..), None) => {
                Err("no \"to\", and the command line names no destination".to_owned().into())
            }
            (Self::Clients(_), None) => {
                Err("no \"to\"; write the \"from\" of the request there".to_owned().into())
            }
        }
    }

    /// Returns the source that a record names as `text`, if that is an address: it may be anything, unless it is the client
    /// that replies go back to.
    pub(super) fn source(&self, text: Option<&str>) -> Result<Option<Addr>, String> {
        let source = text.map(str::parse::<Addr>);
        if !matches!(self, Self::Server) {
            return Ok(source.and_then(Result::ok));
        }
        let has_zone = text.is_some_and(|text| text.contains('%'));
        let wrong = |why: &dyn fmt::Display| {
            format!("\"from\" is {}: {why}", escape::quoted(text.unwrap_or_default().as_bytes()))
        };
        match source {
            None => Err("no \"from\", which is the client that the replies are for".to_owned()),
            Some(Err(error)) => Err(wrong(&error)),
            Some(Ok(client)) if client.ip().is_some() && client.zone().is_none() && has_zone => {
                Err(wrong(&"this machine has no such interface"))
            }
            Some(Ok(client)) => Ok(Some(client)),
        }
    }
}

impl Names {
    /// Returns the address of the endpoint in `text`, which is UTF-8, if that is known or needs no look-up.
    pub(super) fn address(&mut self, text: &[u8], family: Family) -> Result<Addr, ReadError> {
        if let Some((last, address)) = &self.last
            && last.as_bytes() == text
        {
            return Ok(*address);
        }
        let text = &*String::from_utf8_lossy(text);
        if let Some(known) = self.known.get(text) {
            self.last = Some((text.to_owned(), *known));
            return Ok(*known);
        }
        if let Some((_, why)) = self.failed.take_if(|(failed, _)| failed == text) {
            return Err(wrong(text, &why));
        }
        let endpoint = Endpoint::remote(text).map_err(|error| wrong(text, &error))?;
        endpoint.check_as_one_of_many().map_err(|why| wrong(text, &why))?;
        if endpoint.needs_look_up() {
            text.clone_into(&mut self.wanted);
            return Err(ReadError::Unresolved(Box::new(endpoint), family));
        }
        let found =
            endpoint.addresses_there(family).map_err(|error| wrong(text, &format_args!("{error:#}")))?;
        self.remember(text.to_owned(), found[0]);
        Ok(found[0])
    }

    /// Takes the address of the endpoint that was looked up, or why it has none.
    pub(super) fn resolve(&mut self, address: Result<Addr, String>) {
        let text = std::mem::take(&mut self.wanted);
        match address {
            Ok(address) => self.remember(text, address),
            Err(why) => self.failed = Some((text, why)),
        }
    }

    fn remember(&mut self, text: String, address: Addr) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(text, address);
    }
}

fn wrong(text: &str, why: &dyn fmt::Display) -> ReadError {
    ReadError::Bad(format!("\"to\" is {}: {why}", escape::quoted(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_to_its_own_destination_unless_it_was_received_there() {
        let [own, there]: [Addr; 2] = ["192.0.2.1:1", "192.0.2.2:2"].map(|peer| peer.parse().unwrap());
        let goes = |to: &To, own: Option<Addr>, was_received| {
            to.choose(own.map(|own| move |_| Ok::<_, String>(own)), was_received).ok()
        };
        let (each, recorded) = (To::Each(Some(there), Family::Any), To::Each(None, Family::Any));
        for (to, sent, received, without) in [
            (To::OnePeer, None, Some(None), Some(None)),
            (To::Peers(Family::Any), Some(Some(own)), Some(None), Some(None)),
            (each, Some(Some(own)), Some(Some(there)), Some(Some(there))),
            (recorded, Some(Some(own)), Some(Some(own)), None),
        ] {
            assert_eq!(goes(&to, Some(own), false), sent, "{to:?}");
            assert_eq!(goes(&to, Some(own), true), received, "{to:?}");
            assert_eq!(
                [false, true].map(|was_received| goes(&to, None, was_received)),
                [without; 2],
                "{to:?}"
            );
        }
    }
}
