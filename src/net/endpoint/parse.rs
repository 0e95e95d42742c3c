//! Parses endpoints. Every error shows a valid endpoint. No name is looked up.

use std::net::{IpAddr, Ipv6Addr};

use super::{BadEndpoint, Endpoint, Host, Port, foreign};
use crate::escape;
use crate::net::zone::is_of_a_zone;

/// The longest name that the domain name system can hold (RFC 1035, section 2.3.4), in bytes.
const LONGEST_NAME: usize = 253;
/// The longest part of a name between two dots (RFC 1035, section 2.3.4), in bytes.
const LONGEST_LABEL: usize = 63;

/// Returns the text behind `udp://`, which is what any endpoint means.
pub(super) fn without_scheme(text: &str) -> Result<&str, BadEndpoint> {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("udp") => {
            Ok(rest.strip_suffix('/').unwrap_or(rest))
        }
        Some((scheme, _)) => Err(BadEndpoint(format!(
            "{}:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT",
            escape::shortened(scheme)
        ))),
        None => Ok(text),
    }
}

/// Returns the text before and behind the colon; the host without its brackets.
pub(super) fn split(text: &str) -> Result<(&str, &str), BadEndpoint> {
    if text.is_empty() {
        return Err(BadEndpoint::new("empty; write HOST:PORT, as in 127.0.0.1:7788"));
    }
    if let Some(what) = foreign::complaint(text) {
        return Err(BadEndpoint(what));
    }
    let is_path = ["/", "./", "../"].iter().any(|beginning| text.starts_with(beginning));
    if is_path {
        let path = escape::shortened(text);
        return Err(BadEndpoint(format!("a path; write unix:{path}")));
    }
    if text.contains(',') {
        return Err(BadEndpoint::new("more than one endpoint; write one, and run the command once for each"));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return Err(BadEndpoint::new("the bracket is not closed; write [IPV6]:PORT"));
        };
        let Some(port) = rest.strip_prefix(':') else {
            return Err(no_port(&format!("[{host}]")));
        };
        if !host.contains(':') {
            let endpoint = escape::shortened(&format!("{host}:{port}"));
            return Err(BadEndpoint(format!("brackets are for IPv6 addresses; write {endpoint}")));
        }
        return Ok((host, port));
    }
    match text.split_once(':') {
        // A number may have a sign to the parser.
        None if text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok() => {
            Err(BadEndpoint(format!("a port needs a colon; write :{}", escape::shortened(text))))
        }
        None => Err(match text.split_once(' ').and_then(|(host, port)| join(host, port)) {
            Some(joined) => BadEndpoint(format!("no port; did you mean {joined}?")),
            None => parse_host(text).map_or_else(|what| what, |_| no_port(text)),
        }),
        Some((_, port)) if port.contains(':') => Err(BadEndpoint(match text.rsplit_once(':') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && !port.is_empty() => {
                let endpoint = escape::shortened(&format!("[{host}]:{port}"));
                format!("an IPv6 address needs brackets; write {endpoint}")
            }
            _ if text.parse::<Ipv6Addr>().is_ok() => {
                format!("an IPv6 address needs brackets and a port; write [{text}]:PORT")
            }
            _ => "too many colons; write HOST:PORT or [IPV6]:PORT".to_owned(),
        })),
        Some(parts) => Ok(parts),
    }
}

fn no_port(host: &str) -> BadEndpoint {
    BadEndpoint(format!("no port; write {}:PORT", escape::shortened(host)))
}

pub(super) fn parse_host(host: &str) -> Result<Option<Host>, BadEndpoint> {
    if host.is_empty() {
        return Ok(None);
    }
    let shown = escape::shortened(host);
    if let Ok(ip) = host.parse() {
        return Ok(Some(Host::Address(ip)));
    }
    if let Some((ip, zone)) = host.split_once('%')
        && let Ok(ip) = ip.parse::<IpAddr>()
        && !zone.is_empty()
    {
        if has_zone(ip) {
            return Ok(Some(Host::Zoned(ip, zone.to_owned())));
        }
        return Err(BadEndpoint(format!(
            "{shown} is not an address; only link-local addresses (fe80::) and multicast groups have a zone; write \
             {ip}, and choose the interface with -I"
        )));
    }
    if host.contains(':') {
        return Err(BadEndpoint(format!(
            "{shown} is not an IPv6 address; write it as in [2001:db8::1]:7788"
        )));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(BadEndpoint(format!(
            "{shown} is not an IPv4 address; write four numbers from 0 to 255, as in 192.0.2.1:7788"
        )));
    }
    if host == "*" {
        return Err(BadEndpoint::new("'*' is not a host; write :PORT for every local address"));
    }
    if let Some(odd) = host.chars().find(|&c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        let way_out = if odd.is_ascii() {
            "use letters, digits, hyphens and dots"
        } else {
            "write an international name in its ASCII form (xn--...)"
        };
        return Err(BadEndpoint(format!("{odd:?} is not allowed in a host name; {way_out}")));
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if host.len() > LONGEST_NAME
        || labels.clone().any(|label| label.is_empty() || label.len() > LONGEST_LABEL)
    {
        return Err(BadEndpoint(format!(
            "{shown} is not a host name; use 1 to {LONGEST_LABEL} characters between dots and at most {LONGEST_NAME} in all"
        )));
    }
    if labels.clone().any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(BadEndpoint(format!(
            "{shown} is not a host name; a part of it cannot begin or end with a hyphen"
        )));
    }
    Ok(Some(Host::Name(host.to_owned())))
}

pub(super) fn parse_port(port: &str, host: &str) -> Result<Port, BadEndpoint> {
    if port.is_empty() {
        return Err(no_port(host));
    }
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return port.parse().map(Port::Number).map_err(|_| {
            BadEndpoint(format!("{} is not a port; the highest is 65535", escape::shortened(port)))
        });
    }
    if port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte))
        && port.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !port.starts_with(['-', '+'])
    {
        return Ok(Port::Service(port.to_owned()));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if port.split_once('-').is_some_and(|(first, last)| is_number(first) && is_number(last)) {
        return Err(BadEndpoint(format!(
            "{} is a range; write each port by itself",
            escape::shortened(port)
        )));
    }
    Err(BadEndpoint(format!(
        "{} is not a port; write a number up to 65535 or a service name, as in :7788 or :syslog",
        escape::quoted(port.as_bytes())
    )))
}

/// Returns whether an address may be written with a zone. That of a group is the interface on which it is joined or sent to.
fn has_zone(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V6(ip) if is_of_a_zone(ip))
}

/// Parses an address whose port may be left out.
pub(super) fn bare_address(text: &str) -> Option<Host> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (plain, zone) = inner.split_once('%').unwrap_or((inner, ""));
    plain.parse::<IpAddr>().ok()?;
    if zone.contains(':') {
        // A port follows it.
        return None;
    }
    parse_host(inner).ok()?
}

/// Joins a host and a port that were written apart, as netcats take them; nothing if they are not those.
#[must_use]
pub fn join(host: &str, port: &str) -> Option<String> {
    let host = host.strip_suffix(':').filter(|host| !host.contains(':')).unwrap_or(host);
    let port = port.strip_prefix(':').unwrap_or(port);
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port > 0);
    if !is_port || Endpoint::here(host).is_ok() {
        return None;
    }
    let joined =
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Endpoint::here(&joined).is_ok().then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    fn complaint(text: &str) -> String {
        Endpoint::remote(text).unwrap_err().to_string()
    }

    #[test]
    fn an_endpoint_may_be_written_as_a_url() {
        for text in ["udp://192.0.2.1:53", "UDP://192.0.2.1:53/"] {
            assert_eq!(Endpoint::remote(text), Endpoint::remote("192.0.2.1:53"), "{text}");
        }
        assert!(Endpoint::remote_or_here("udp://:0").unwrap().is_here());
        assert_eq!(Endpoint::source("udp://[::1]").unwrap().port, Port::Any);
    }

    #[test]
    fn a_source_needs_no_port() {
        for text in ["127.0.0.1", "::1", "[::1]"] {
            assert_eq!(Endpoint::source(text).unwrap().port, Port::Any, "{text}");
        }
    }

    #[test]
    fn a_source_with_a_zone_may_have_a_port() {
        for (text, names_port) in [
            ("239.1.1.1%eth0:5000", true),
            ("239.1.1.1%eth0", false),
            ("[ff05::2%eth0]:5000", true),
            ("ff05::2%eth0", false),
            ("[fe80::1%eth0]", false),
        ] {
            let endpoint = Endpoint::source(text).unwrap();
            assert_eq!(endpoint.port != Port::Any, names_port, "{text}");
        }
    }

    #[test]
    fn a_host_and_a_port_in_two_arguments_are_joined() {
        for (host, port, joined) in [
            ("localhost", "53", Some("localhost:53")),
            ("192.0.2.1", "53", Some("192.0.2.1:53")),
            ("::1", "53", Some("[::1]:53")),
            ("[::1]", "53", Some("[::1]:53")),
            ("localhost:", "53", Some("localhost:53")),
            ("localhost", ":53", Some("localhost:53")),
            ("localhost:1", "53", None),
            ("localhost", "0", None),
            ("localhost", "+53", None),
            ("localhost", "65536", None),
            ("localhost", "hi", None),
            ("ho st", "53", None),
        ] {
            assert_eq!(join(host, port).as_deref(), joined, "{host} {port}");
        }
    }

    #[test]
    fn an_error_shows_a_valid_endpoint() {
        for (text, words) in [
            ("", "empty; write HOST:PORT, as in 127.0.0.1:7788"),
            ("127.0.0.1", "no port; write 127.0.0.1:PORT"),
            ("host:", "no port; write host:PORT"),
            ("[::1]", "no port; write [::1]:PORT"),
            ("7788", "a port needs a colon; write :7788"),
            ("+80", "'+' is not allowed in a host name; use letters, digits, hyphens and dots"),
            ("localhost 53", "no port; did you mean localhost:53?"),
            ("*:53", "'*' is not a host; write :PORT for every local address"),
            ("host:65536", "65536 is not a port; the highest is 65535"),
            ("host:0", "port 0 is not a destination; write a port from 1 to 65535"),
            (
                "host:-1",
                "'-1' is not a port; write a number up to 65535 or a service name, as in :7788 or :syslog",
            ),
            ("::1", "an IPv6 address needs brackets and a port; write [::1]:PORT"),
            ("fe80::1:2:3:4:5:6:7788", "an IPv6 address needs brackets; write [fe80::1:2:3:4:5:6]:7788"),
            ("a:b:c", "too many colons; write HOST:PORT or [IPV6]:PORT"),
            ("[::1:53", "the bracket is not closed; write [IPV6]:PORT"),
            ("[host]:53", "brackets are for IPv6 addresses; write host:53"),
            (
                "[2001:db8::1%eth0]:53",
                "2001:db8::1%eth0 is not an address; only link-local addresses (fe80::) and multicast groups have a zone; \
                 write 2001:db8::1, and choose the interface with -I",
            ),
            (
                "192.0.2.1%eth0:53",
                "192.0.2.1%eth0 is not an address; only link-local addresses (fe80::) and multicast groups have a zone; \
                 write 192.0.2.1, and choose the interface with -I",
            ),
            ("239.1.1.1%:53", "'%' is not allowed in a host name; use letters, digits, hyphens and dots"),
            ("[::g]:53", "::g is not an IPv6 address; write it as in [2001:db8::1]:7788"),
            (
                "256.1.1.1:53",
                "256.1.1.1 is not an IPv4 address; write four numbers from 0 to 255, as in 192.0.2.1:7788",
            ),
            ("ho st:53", "' ' is not allowed in a host name; use letters, digits, hyphens and dots"),
            (
                "主机:53",
                "'主' is not allowed in a host name; write an international name in its ASCII form (xn--...)",
            ),
            (
                "a..b:53",
                "a..b is not a host name; use 1 to 63 characters between dots and at most 253 in all",
            ),
            ("-a:53", "-a is not a host name; a part of it cannot begin or end with a hyphen"),
            ("udp://host/", "no port; write host:PORT"),
            ("http://host/", "http:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT"),
            ("tcp://host:53", "tcp:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT"),
            ("/run/x.sock", "a path; write unix:/run/x.sock"),
            ("./x.sock", "a path; write unix:./x.sock"),
            ("unix:", "no path; write it as in unix:/run/x.sock"),
            (":7788,:7789", "more than one endpoint; write one, and run the command once for each"),
            (":7788-7790", "7788-7790 is a range; write each port by itself"),
            ("::1:53", "an IPv6 address needs brackets; write [::1]:53"),
        ] {
            assert_eq!(complaint(text), words, "{text:?}");
        }
    }

    #[test]
    fn a_long_endpoint_is_cut_where_it_is_quoted() {
        let (letters, digits) = ("a".repeat(3000), "0".repeat(3000));
        for text in [
            letters.clone(),
            digits.clone(),
            format!("{letters}://host:53"),
            format!("[{letters}]:53"),
            format!("[{letters}:53"),
            format!("[fe80::1%{letters}]"),
            format!("[2001:db8::1%{letters}]:53"),
            format!("::1:{letters}"),
            format!("{letters}:53"),
            format!("{letters} 53"),
            format!("host:{digits}-1"),
            format!("host:1{digits}"),
            format!("host:-{letters}"),
            format!("/dev/udp/{letters}/53"),
            format!("/dev/udp/host/{digits}"),
            format!("UDP:{letters}:53"),
            format!("udp-recv:{letters}"),
            format!("host:53,{letters}"),
            format!("1.1.1.1{digits}:53"),
        ] {
            let complaint = complaint(&text);
            assert!(complaint.len() < 250, "{complaint}");
        }
    }
}
