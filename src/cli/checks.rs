//! Checks that the endpoints of a tool fit its options, and each other.

use super::receiving::ReceivingArgs;
use super::socket::first_given;
use super::usage::UsageError;
use crate::escape;
use crate::format::Format;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::socket::Options;

/// Checks that the `endpoints` of a tool can be used with the `options` of its socket, and datagrams be printed as
/// `output`, from the sources and with the details of `receiving`, if any of the endpoints is a unix socket.
///
/// # Errors
///
/// Fails if all of them are unix sockets and an option is for IP alone, or if the output has addresses of IP alone.
pub fn check_unix<'e>(
    endpoints: impl IntoIterator<Item = &'e Endpoint>,
    options: &Options,
    receiving: Option<&ReceivingArgs>,
    output: Option<Format>,
) -> Result<(), UsageError> {
    let (unix, ip): (Vec<_>, Vec<_>) = endpoints.into_iter().partition(|endpoint| endpoint.is_unix());
    let Some(socket) = unix.first() else { return Ok(()) };
    if output == Some(Format::Pcap) {
        return Err(UsageError::new(format!(
            "-f pcap is for IP packets, and {socket} is a unix socket; use -f json"
        )));
    }
    if ip.is_empty() && receiving.is_some_and(ReceivingArgs::has_allowed) {
        let what =
            format!("--allow matches IP addresses only, so {socket} would receive nothing; leave it out");
        return Err(UsageError::new(what));
    }
    let has_headers = receiving.is_some_and(|receiving| receiving.headers);
    match ip_option(options, has_headers).filter(|_| ip.is_empty()) {
        Some(option) => {
            Err(UsageError::new(format!("{option} is for IP, and {socket} is a unix socket; leave it out")))
        }
        None => Ok(()),
    }
}

/// Checks that the `endpoints` of a tool do not contradict the `options` of its socket.
///
/// # Errors
///
/// Fails if an address or a group is not of the version of IP that the options allow, or names another interface.
pub fn check_options<'e>(
    endpoints: impl IntoIterator<Item = &'e Endpoint>,
    options: &Options,
) -> Result<(), UsageError> {
    let endpoints = endpoints
        .into_iter()
        .filter_map(|endpoint| Some((endpoint.to_string(), endpoint.ip()?, endpoint.interface_of_group())));
    let groups =
        options.groups.iter().map(|group| (format!("--join {group}"), group.ip, group.interface.as_deref()));
    for (shown, ip, interface) in endpoints.chain(groups) {
        if !options.family.allows(ip) {
            let (own, given) = if ip.is_ipv4() { (Family::V4, "-6") } else { (Family::V6, "-4") };
            return Err(UsageError::new(format!("{shown} is an {own} address; leave out {given}")));
        }
        if let (Some(named), Some(bound)) = (interface, options.interface.as_deref())
            && named != bound
            // A number may be that of the name.
            && ![named, bound].iter().any(|one| one.parse::<u32>().is_ok())
        {
            let bound = escape::shortened(bound);
            return Err(UsageError::new(format!(
                "{shown} names another interface than -I {bound}; leave one out"
            )));
        }
    }
    Ok(())
}

/// Checks that datagrams can be sent from `here` to `there`.
///
/// # Errors
///
/// Fails if one of them is a unix socket and the other is not.
pub fn check_same_kind(there: &Endpoint, here: Option<&Endpoint>) -> Result<(), UsageError> {
    match here.filter(|here| here.is_unix() != there.is_unix()) {
        None => Ok(()),
        Some(here) if there.is_unix() => Err(UsageError::new(format!(
            "{there} is a unix socket, and --bind {here} is not; write --bind unix:PATH, or leave it out"
        ))),
        Some(here) => {
            Err(UsageError::new(format!("--bind {here} is a unix socket, and {there} is not; leave it out")))
        }
    }
}

/// Returns an option that is given and has an effect only on IP.
fn ip_option(options: &Options, has_headers: bool) -> Option<&'static str> {
    first_given([
        (options.family == Family::V4, "-4"),
        (options.family == Family::V6, "-6"),
        (options.broadcast, "--broadcast"),
        (options.header.ttl.is_some(), "--ttl"),
        (options.header.dscp.is_some(), "--dscp"),
        (options.header.dont_fragment, "--dont-fragment"),
        (options.sharing.port, "--reuse-port"),
        (options.sharing.address, "--reuse-address"),
        (options.interface.is_some(), "--interface"),
        (options.disables_loopback, "--no-loopback"),
        (!options.groups.is_empty(), "--join"),
        (!options.sources.is_empty(), "--source"),
        (has_headers, "--headers"),
    ])
}
