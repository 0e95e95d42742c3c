//! The socket of a tool and its buffer.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::num::NonZeroU8;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command};

use super::usage::UsageError;
use super::value::{interface, size, source_of_group, ttl};
use crate::messages;
use crate::net::describe::facts;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::header::{Dscp, HeaderOptions};
use crate::net::multicast::{Group, SOURCE_WITHOUT_GROUP};
use crate::net::socket::{BufferSize, Direction, Options, ROOM, Sharing, Socket};
use crate::runtime::console::Console;

/// The arguments for a socket.
#[derive(Args, Clone, Debug)]
pub struct SocketArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Send and receive through interface NAME only
    #[arg(short = 'I', long, value_name = "NAME", value_parser = interface)]
    interface: Option<String>,
    #[command(flatten)]
    header: HeaderArgs,
    #[command(flatten)]
    sharing: SharingArgs,
}

/// The arguments for the IP header of what a socket sends.
#[derive(Args, Clone, Copy, Debug)]
struct HeaderArgs {
    /// Send with a TTL or hop limit of N (1 to 255)
    #[arg(long, value_name = "N", value_parser = ttl)]
    ttl: Option<NonZeroU8>,
    /// Send with this DSCP (ef, af41, cs1, 0 to 63)
    #[arg(long, value_name = "VALUE", value_parser = DscpParser, hide_possible_values = true)]
    dscp: Option<Dscp>,
    /// Never fragment datagrams; those above the path MTU are not sent
    #[arg(long)]
    dont_fragment: bool,
}

/// The arguments for who may bind the same port.
#[derive(Args, Clone, Copy, Debug)]
struct SharingArgs {
    /// Share the port: each sender reaches one of the processes that set this
    #[arg(long)]
    reuse_port: bool,
    /// Share the port with sockets that set SO_REUSEADDR
    #[arg(long)]
    reuse_address: bool,
}

impl SocketArgs {
    /// Returns an option for the port that a socket is bound to, if one is given.
    #[must_use]
    pub fn option_to_bind(&self) -> Option<&'static str> {
        let SharingArgs { reuse_port, reuse_address } = self.sharing;
        first_given([(reuse_port, "--reuse-port"), (reuse_address, "--reuse-address")])
    }

    /// Returns an option that has an effect only on what is sent, if one is given.
    #[must_use]
    pub fn option_to_send(&self) -> Option<&'static str> {
        let HeaderArgs { ttl, dscp, dont_fragment } = self.header;
        let options =
            [(ttl.is_some(), "--ttl"), (dscp.is_some(), "--dscp"), (dont_fragment, "--dont-fragment")];
        first_given(options)
    }

    /// Returns the options of the socket.
    #[must_use]
    pub fn options(&self) -> Options {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        let HeaderArgs { ttl, dscp, dont_fragment } = self.header;
        let header = HeaderOptions { ttl, dscp, dont_fragment };
        let sharing = Sharing { port: self.sharing.reuse_port, address: self.sharing.reuse_address };
        Options { family, header, sharing, interface: self.interface.clone(), ..Options::default() }
    }
}

/// Returns the first of `options` that is given.
#[must_use]
pub fn first_given<const N: usize>(options: [(bool, &'static str); N]) -> Option<&'static str> {
    options.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
}

/// The arguments for a socket that sends.
#[derive(Args, Clone, Debug)]
pub struct SendingSocketArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Allow sending to broadcast addresses
    #[arg(long)]
    broadcast: bool,
    /// Keep multicasts from being delivered on this machine
    #[arg(long)]
    no_loopback: bool,
}

impl SendingSocketArgs {
    /// Returns an option that has an effect only on what is sent, if one is given.
    #[must_use]
    pub fn option_to_send(&self) -> Option<&'static str> {
        let options = [(self.broadcast, "--broadcast"), (self.no_loopback, "--no-loopback")];
        self.socket.option_to_send().or_else(|| first_given(options))
    }

    /// Returns the options of the socket.
    #[must_use]
    pub fn options(&self) -> Options {
        let (broadcast, disables_loopback) = (self.broadcast, self.no_loopback);
        Options { broadcast, disables_loopback, ..self.socket.options() }
    }
}

/// The arguments for the multicast groups that a socket receives.
#[derive(Args, Clone, Debug)]
pub struct GroupArgs {
    /// Join multicast GROUP as well (239.1.1.1, ff02::fb%eth0); repeatable
    #[arg(long, value_name = "GROUP")]
    join: Vec<Group>,
    /// Receive multicasts from source ADDR only; repeatable
    #[arg(long, value_name = "ADDR", value_parser = source_of_group)]
    source: Vec<IpAddr>,
}

impl GroupArgs {
    /// Returns whether there are none.
    #[must_use]
    pub fn are_absent(&self) -> bool {
        self.join.is_empty() && self.source.is_empty()
    }

    /// Returns `options` with the groups to join, for a tool that binds `endpoints`. A name among those may be a group.
    ///
    /// # Errors
    ///
    /// Fails if there are sources and no group to receive from them, or a group that none of them can send to.
    pub fn add_to<'e>(
        self,
        options: Options,
        endpoints: impl IntoIterator<Item = &'e Endpoint>,
    ) -> Result<Options, UsageError> {
        let Self { join, source } = self;
        let mut may_be_group = false;
        let mut groups: Vec<IpAddr> = join.iter().map(|group| group.ip).collect();
        for endpoint in endpoints {
            groups.extend(endpoint.group());
            may_be_group |= endpoint.needs_look_up();
        }
        if let Some(first) = source.first() {
            if groups.is_empty() && !may_be_group {
                return Err(UsageError::new(format!("{SOURCE_WITHOUT_GROUP}; ncat's --source is --bind")));
            }
            let lacks_source = |group: &&IpAddr| !source.iter().any(|one| one.is_ipv4() == group.is_ipv4());
            if let Some(group) = groups.iter().find(lacks_source) {
                return Err(UsageError::new(format!(
                    "--source {first} is not of the IP version of group {group}; name a source of that group"
                )));
            }
            let lacks_group = |one: &&IpAddr| !groups.iter().any(|group| one.is_ipv4() == group.is_ipv4());
            if let Some(one) = source.iter().find(lacks_group).filter(|_| !may_be_group) {
                return Err(UsageError::new(format!("--source {one} is not of the IP version of any group")));
            }
        }
        Ok(Options { groups: join, sources: source, ..options })
    }
}

/// Parses a DSCP, and lists the names for completion.
#[derive(Clone, Copy, Debug)]
struct DscpParser;

impl TypedValueParser for DscpParser {
    type Value = Dscp;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Dscp, clap::Error> {
        StringValueParser::new().try_map(|text| text.parse::<Dscp>()).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Dscp::names().map(PossibleValue::new)))
    }
}

/// The argument for the size of a socket buffer.
#[derive(Args, Clone, Copy, Debug)]
pub struct BufferArgs {
    /// Ask the kernel for a socket buffer of SIZE (64KiB, 4M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub buffer: Option<usize>,
}

/// Notes the groups that `socket` has joined.
pub fn note_memberships(socket: &Socket, console: Console) {
    socket.memberships().iter().for_each(|membership| console.note(membership));
}

/// What a socket is for, which decides its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// It receives whatever arrives, in batches.
    ReceivesMany,
    /// It receives one datagram, or the replies to a request.
    ReceivesFew,
    /// It sends a stream, in batches.
    SendsMany,
}

impl Traffic {
    fn direction(self) -> Direction {
        match self {
            Self::ReceivesMany | Self::ReceivesFew => Direction::In,
            Self::SendsMany => Direction::Out,
        }
    }
}

/// Asks the kernel for a buffer of `asked` bytes, or else for as much as this `traffic` needs, and notes if it grants
/// less than was asked. Prints details of the socket, which is ready by then, if they are wanted: it sends to
/// `destinations`, each a group, or `None` for a host.
///
/// # Errors
///
/// Fails if the kernel does not report the size of its buffer.
pub fn prepare_socket(
    socket: &Socket,
    traffic: Traffic,
    asked: Option<usize>,
    destinations: &[Option<IpAddr>],
    console: Console,
) -> anyhow::Result<()> {
    // The peers of a unix socket wait for it, and need no room there.
    let usual = (traffic == Traffic::ReceivesMany && !socket.is_unix()).then_some(ROOM);
    let room = asked.or(usual).map(|size| BufferSize::ask(socket, traffic.direction(), size)).transpose()?;
    if let Some(room) = room.filter(|room| asked.is_some() && room.falls_short()) {
        console.note(&room);
    }
    if console.prints_details() {
        let room = room.map_or_else(|| BufferSize::of(socket, traffic.direction()), Ok)?;
        let is_in_batches = traffic != Traffic::ReceivesFew;
        console.detail(&messages::socket_facts(&facts(socket, room, is_in_batches, destinations)));
    }
    Ok(())
}
