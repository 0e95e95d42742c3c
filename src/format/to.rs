//! Where a datagram goes that was read from a format that has addresses.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::escape;
use crate::net::endpoint::{Endpoint, Family};

/// How many names are remembered.
const NAMES: usize = 4096;

/// What is done with the addresses of a record.
#[derive(Clone, Debug, Default)]
pub enum To {
    /// It goes where all others go: it may not have an address of its own.
    #[default]
    OnePeer,
    /// It goes to its own address. What has none goes to this one.
    ///
    /// What says where it came `from` was received once, at the address it has, and is not sent there
    /// again: it goes to this one too, if there is one.
    Each(Option<SocketAddr>, Family),
    /// It goes to its own address. What has none, or was received, goes to whoever is talked to.
    Company(Family),
}

/// The names that were looked up.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, SocketAddr>);

impl To {
    /// Where a record goes that has this address of its `own`, and perhaps `was_received`. `None` is the
    /// one peer.
    pub(super) fn choose(
        &self,
        own: Option<impl FnOnce(Family) -> Result<SocketAddr, String>>,
        was_received: bool,
    ) -> Result<Option<SocketAddr>, String> {
        match (self, own) {
            (Self::OnePeer, Some(_)) if !was_received => {
                Err("\"to\" has no effect with one ENDPOINT for all; leave it out".to_owned())
            }
            (Self::OnePeer, _) | (Self::Company(_), None) => Ok(None),
            (Self::Company(_), _) if was_received => Ok(None),
            (Self::Each(Some(there), _), own) if was_received || own.is_none() => Ok(Some(*there)),
            (Self::Each(_, family) | Self::Company(family), Some(own)) => own(*family).map(Some),
            (Self::Each(..), None) => Err("no \"to\" and no DEST".to_owned()),
        }
    }
}

impl Names {
    /// The address that an endpoint stands for, which is looked up once.
    pub(super) fn resolve(&mut self, text: &str, family: Family) -> Result<SocketAddr, String> {
        if let Some(known) = self.0.get(text) {
            return Ok(*known);
        }
        let wrong =
            |why: &dyn std::fmt::Display| format!("\"to\" is {}: {why}", escape::quoted(text.as_bytes()));
        let endpoint = Endpoint::remote(text).map_err(|error| wrong(&error))?;
        let found = endpoint.addresses_there(family).map_err(|error| wrong(&format_args!("{error:#}")))?;
        if self.0.len() >= NAMES {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), found[0]);
        Ok(found[0])
    }
}
