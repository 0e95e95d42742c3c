//! Endpoints in the notation of other programs, and what to write instead of them. None is accepted. [`crate::cli`]
//! knows the options of those programs.

use std::net::{IpAddr, SocketAddr};

use crate::escape;

/// Returns what is wrong with `text` if it is in the notation of bash, samplicator or socat, or names stdin or stdout.
pub(super) fn complaint(text: &str) -> Option<String> {
    if let Some((host, port)) = text.strip_prefix("/dev/udp/").and_then(|path| path.split_once('/')) {
        let endpoint = escape::shortened(&format!("{host}:{port}"));
        return Some(format!("names of bash are not supported; write {endpoint}"));
    }
    if let Some((host, port)) = text.split_once('/')
        && let (Ok(host), Ok(port)) = (host.parse::<IpAddr>(), port.parse())
    {
        return Some(format!("a port needs a colon; write {}", SocketAddr::new(host, port)));
    }
    if text == "-" || ["STDIN", "STDOUT", "STDIO"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some("stdin and stdout need no address; leave it out".to_owned());
    }
    let way_out = socat_address(text)?;
    Some(format!("addresses of socat are not supported; {way_out}"))
}

/// Returns what to write instead of `UDP:HOST:PORT`, `UDP4-RECV:PORT`, `EXEC:COMMAND` and the like.
fn socat_address(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(':')?;
    // A host may have such a name, but not in capital letters with a command for its port.
    if ["EXEC", "SYSTEM"].contains(&kind) && rest.parse::<u16>().is_err() {
        let command = escape::shortened(rest).replace('\'', r"'\''");
        return Some(format!("use udp-listen :PORT --exec '{command}'"));
    }
    if let Some(way_out) = unix_address_of_socat(kind, rest) {
        return Some(way_out);
    }
    let (rest, options) = rest.split_once(',').unwrap_or((rest, ""));
    let (kind, rest) = (kind.to_ascii_lowercase(), escape::shortened(rest));
    let purpose = ["udp4", "udp6", "udp"].iter().find_map(|udp| kind.strip_prefix(udp))?;
    match purpose {
        "-listen" | "-l" | "-recv" | "-recvfrom" => {
            let group = group_of_socat(options).unwrap_or_default();
            Some(format!("use udp-listen {group}:{rest}{}", filters_of_socat(options)))
        }
        "-sendto" | "-datagram" | "-connect" => Some(format!("write {rest}")),
        "" if rest.contains(':') => Some(format!("write {rest}")),
        _ => None,
    }
}

/// Returns the group, with its interface, that an option of a socat address joins, as in
/// `ip-add-membership=239.1.1.1:eth0` and `ipv6-join-group=[ff02::fb]:eth0`.
fn group_of_socat(options: &str) -> Option<String> {
    const NAMES: [&str; 4] = ["ip-add-membership", "ip-membership", "ipv6-join-group", "ipv6-add-membership"];
    let mut options = options.split(',').filter_map(|option| option.split_once('='));
    let (_, value) = options.find(|(name, _)| NAMES.contains(name))?;
    let (group, interface) = value.rsplit_once(':')?;
    // An interface may be given by its address, which is not written here.
    let named = Some(interface).filter(|name| name.parse::<IpAddr>().is_err());
    let zone = named.map(|name| format!("%{}", escape::shortened(name))).unwrap_or_default();
    let ip: IpAddr = group.trim_matches(['[', ']']).parse().ok().filter(IpAddr::is_multicast)?;
    Some(if ip.is_ipv6() { format!("[{ip}{zone}]") } else { format!("{ip}{zone}") })
}

/// Returns what to write instead of the options of a socat address that filter datagrams by their source.
fn filters_of_socat(options: &str) -> String {
    let filter = |option: &str| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = escape::shortened(value);
        let source = match name {
            "sourceport" | "sp" => format!(":{value}"),
            "lowport" => ":1-1023".to_owned(),
            // ADDRESS:MASK, ADDRESS/BITS or [IPV6]/BITS.
            "range" if value.starts_with('[') => value.replace(['[', ']'], ""),
            "range" => value.replace(':', "/"),
            _ => return None,
        };
        Some(format!(" --allow {source}"))
    };
    options.split(',').filter_map(filter).collect()
}

/// Returns what to write instead of `UNIX-SENDTO:PATH`, `ABSTRACT-RECV:NAME` and the like.
fn unix_address_of_socat(kind: &str, rest: &str) -> Option<String> {
    let (kind, name) = (kind.to_ascii_lowercase(), escape::shortened(rest.split(',').next().unwrap_or(rest)));
    let (kind, purpose) = kind.split_once('-')?;
    let address = match kind {
        "unix" => format!("unix:{name}"),
        "abstract" => format!("unix:@{name}"),
        _ => return None,
    };
    match purpose {
        "recv" | "recvfrom" => Some(format!("use udp-listen {address}")),
        "sendto" | "client" | "connect" => Some(format!("write {address}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::net::endpoint::Endpoint;

    #[test]
    fn a_notation_of_another_program_is_named_with_a_right_one() {
        for (text, words) in [
            ("UNIX-SENDTO:/run/x,fork", "addresses of socat are not supported; write unix:/run/x"),
            ("abstract-recv:x", "addresses of socat are not supported; use udp-listen unix:@x"),
            ("/dev/udp/host/53", "names of bash are not supported; write host:53"),
            ("192.0.2.1/2055", "a port needs a colon; write 192.0.2.1:2055"),
            ("2001:db8::1/2055", "a port needs a colon; write [2001:db8::1]:2055"),
            ("UDP:host:53", "addresses of socat are not supported; write host:53"),
            ("udp4-recv:53,fork", "addresses of socat are not supported; use udp-listen :53"),
            (
                "UDP-RECV:53,range=10.0.0.0:255.0.0.0,sp=68,reuseaddr",
                "addresses of socat are not supported; use udp-listen :53 --allow 10.0.0.0/255.0.0.0 --allow :68",
            ),
            (
                "UDP6-LISTEN:53,lowport,range=[fd00::]/8",
                "addresses of socat are not supported; use udp-listen :53 --allow :1-1023 --allow fd00::/8",
            ),
            ("EXEC:cat -v", "addresses of socat are not supported; use udp-listen :PORT --exec 'cat -v'"),
            ("STDIN", "stdin and stdout need no address; leave it out"),
            ("-", "stdin and stdout need no address; leave it out"),
        ] {
            assert_eq!(Endpoint::remote(text).unwrap_err().to_string(), words, "{text:?}");
        }
    }
}
