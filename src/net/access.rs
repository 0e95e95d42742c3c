//! Access lists: the source addresses and ports that are allowed, and those that are denied.
//!
//! Every notation becomes ranges of addresses, which are merged, sorted and searched by halves: 17 steps
//! among 100,000 of them. A tool filters what it has received before it counts or prints it.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};

use super::resolver::Query;
use crate::batch::Batch;
use crate::escape;
use crate::net::addr::Addr;

/// The largest list that is read, in bytes: millions of networks. A device such as /dev/zero has no end.
const LARGEST_LIST: u64 = 64 * 1024 * 1024;

/// Decides from which peers datagrams are accepted.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None` allows every address; a list without an address allows none.
    allowed: Option<Arc<Ranges>>,
    denied: Option<Arc<Ranges>>,
    /// `None` allows every port.
    allowed_ports: Option<Arc<Ports>>,
    denied_ports: Option<Arc<Ports>>,
}

/// Ranges of ports: in order, and none overlap.
type Ports = Vec<(u16, u16)>;

/// One value of `--allow` or `--deny`, or one line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The addresses from the first to the last, both of one IP version.
    Range(IpAddr, IpAddr),
    /// The ports from the first to the last, of any address.
    Ports(u16, u16),
    /// The addresses of a host.
    Host(String),
    /// The sources that a file lists, one a line.
    List(PathBuf),
}

/// Access lists as they were given. The addresses of their hosts are missing.
#[derive(Debug, Default)]
pub struct Lists {
    allowed: Option<List>,
    denied: Option<List>,
}

#[derive(Debug, Default)]
struct List {
    ranges: Ranges,
    hosts: Vec<Query>,
    ports: Ports,
    /// Whether it decides by addresses: unless all that it has is ports.
    has_addresses: bool,
}

/// Addresses: ranges in order, of which none overlap.
#[derive(Debug, Default)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Access {
    /// Returns whether it admits everyone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allowed.is_none()
            && self.denied.is_none()
            && self.allowed_ports.is_none()
            && self.denied_ports.is_none()
    }

    /// Leaves out the datagrams of `batch` from the place `first` on whose sources are denied. Returns their number.
    pub fn filter(&self, batch: &mut Batch, first: usize) -> u64 {
        if self.is_open() {
            return 0;
        }
        batch.retain_from(first, |envelope| self.admits(envelope.from)) as u64
    }

    /// Returns whether datagrams from `peer` are accepted: both its address and its port are allowed, and neither is
    /// denied. A peer that the system does not name is in no list.
    #[must_use]
    pub fn admits(&self, peer: Option<Addr>) -> bool {
        let has_ip = |ranges: &Ranges| peer.and_then(Addr::ip).is_some_and(|ip| ranges.contains(ip));
        let has_port = |ports: &Ports| peer.and_then(Addr::port).is_some_and(|port| is_in(ports, port));
        self.allowed.as_deref().is_none_or(has_ip)
            && !self.denied.as_deref().is_some_and(has_ip)
            && self.allowed_ports.as_deref().is_none_or(has_port)
            && !self.denied_ports.as_deref().is_some_and(has_port)
    }
}

impl Lists {
    /// Reads the lists that admit the peers in `allow`, or everyone if that is empty, except for those in `deny`.
    /// Fails if a file cannot be read.
    pub fn read(allow: &[Source], deny: &[Source]) -> Result<Self> {
        let read = |option, sources: &[Source]| {
            (!sources.is_empty()).then(|| List::read(option, sources)).transpose()
        };
        Ok(Self { allowed: read("--allow", allow)?, denied: read("--deny", deny)? })
    }

    /// Returns the hosts whose addresses are missing.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        let lists = [&self.allowed, &self.denied];
        lists.into_iter().flatten().flat_map(|list| &list.hosts).cloned().collect()
    }

    /// Adds the `addresses` of the hosts, in the order of [`Lists::queries`].
    #[must_use]
    pub fn resolve(self, addresses: Vec<Vec<Addr>>) -> Access {
        let mut addresses = addresses.into_iter();
        let mut resolve = |list: Option<List>| {
            let Some(List { mut ranges, hosts, ports, has_addresses }) = list else { return (None, None) };
            let found = addresses.by_ref().take(hosts.len()).flatten();
            for ip in found.filter_map(Addr::ip) {
                let ip = ip.to_canonical();
                ranges.add(ip, ip);
            }
            let ranges = has_addresses.then(|| Arc::new(ranges.merge()));
            (ranges, (!ports.is_empty()).then(|| Arc::new(merged(ports))))
        };
        let (allowed, allowed_ports) = resolve(self.allowed);
        let (denied, denied_ports) = resolve(self.denied);
        Access { allowed, denied, allowed_ports, denied_ports }
    }
}

impl List {
    fn read(option: &str, sources: &[Source]) -> Result<Self> {
        let mut all = Self::default();
        for source in sources {
            match source {
                Source::List(path) => all.add_file(option, path)?,
                Source::Range(first, last) => all.add_range(*first, *last),
                Source::Host(name) => all.add_host(Query::host(name.clone(), None)),
                Source::Ports(first, last) => all.ports.push((*first, *last)),
            }
        }
        Ok(all)
    }

    fn add_range(&mut self, first: IpAddr, last: IpAddr) {
        self.ranges.add(first, last);
        self.has_addresses = true;
    }

    fn add_host(&mut self, host: Query) {
        self.hosts.push(host);
        self.has_addresses = true;
    }

    fn add_file(&mut self, option: &str, path: &Path) -> Result<()> {
        let (name, mut bytes) = (path.display(), Vec::new());
        let read = File::open(path).and_then(|file| file.take(LARGEST_LIST + 1).read_to_end(&mut bytes));
        let read = read.with_context(|| format!("cannot read {option} @{name}"))?;
        ensure!(
            read as u64 <= LARGEST_LIST,
            "cannot read {option} @{name}: larger than {} MiB",
            LARGEST_LIST >> 20
        );
        // Some editors on Windows begin a file with a byte order mark.
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let ports = self.ports.len();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let entry = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if entry.is_empty() {
                continue;
            }
            let place = || format!("{name}, line {number}: {}", escape::quoted(entry));
            match String::from_utf8_lossy(entry).parse() {
                Ok(Source::Range(first, last)) => self.add_range(first, last),
                Ok(Source::Host(name)) => self.add_host(Query::host(name, Some(place()))),
                Ok(Source::Ports(first, last)) => self.ports.push((first, last)),
                Ok(Source::List(_)) => {
                    return Err(anyhow!("a list cannot name another list").context(place()));
                }
                Err(what) => return Err(anyhow!("{what}").context(place())),
            }
        }
        // A file without an entry allows no address.
        self.has_addresses |= self.ports.len() == ports;
        Ok(())
    }
}

impl Ranges {
    /// Adds the addresses from `first` to `last`, both of one IP version.
    fn add(&mut self, first: IpAddr, last: IpAddr) {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => self.v4.push((first.into(), last.into())),
            (first, last) => self.v6.push((number(first), number(last))),
        }
    }

    /// Puts the ranges in order, so that they can be searched.
    fn merge(self) -> Self {
        Self { v4: merged(self.v4), v6: merged(self.v6) }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => is_in(&self.v4, ip.into()),
            IpAddr::V6(ip) => is_in(&self.v6, ip.into()),
        }
    }
}

/// Sorts ranges, and makes one of those that overlap.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    ranges
}

/// Returns whether `ip` is in one of the ranges that [`merged`] has put in order.
fn is_in<T: Ord + Copy>(ranges: &[(T, T)], ip: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= ip);
    ranges[..behind].last().is_some_and(|(_, last)| ip <= *last)
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix('@') {
            return match path {
                "" => Err("no file name after @".to_owned()),
                path => Ok(Self::List(path.into())),
            };
        }
        if let Some(text) = text.strip_prefix(':').filter(|text| !text.contains(':')) {
            return ports(text);
        }
        if let Some((ip, mask)) = text.split_once('/') {
            return network(ip, mask);
        }
        if let Some((first, last)) = text.split_once('-')
            && let Ok(first) = first.trim().parse()
        {
            return range(first, last.trim());
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return Ok(Self::Range(ip, ip));
        }
        if is_host_name(text) {
            return Ok(Self::Host(text.to_owned()));
        }
        Err("not an address, network, range, host name or @FILE; write 192.0.2.1, 192.0.2.0/24, \
             192.0.2.10-192.0.2.20, 2001:db8::/32 or example.org, and apart from those :53 for a source port"
            .to_owned())
    }
}

/// Parses a port or a range of them, behind its colon.
fn ports(text: &str) -> Result<Source, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // A number may have a sign to the parser.
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Source::Ports(first, last)),
        (Some(first), Some(last)) => Err(format!("reversed range; write :{last}-{first}")),
        _ => Err("not a source port; write :53, or :1-1023 for a range".to_owned()),
    }
}

/// Parses a network, which has the length of a prefix or a netmask behind its address.
fn network(ip: &str, mask: &str) -> Result<Source, String> {
    let (shown, ip) = (escape::shortened(mask), address(ip)?);
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let length = if mask.bytes().all(|byte| byte.is_ascii_digit()) && !mask.is_empty() {
        let length = mask.parse().ok().filter(|length| *length <= longest);
        length.ok_or_else(|| format!("prefix length {shown} is larger than {longest}"))?
    } else {
        let mask = mask.parse::<IpAddr>().ok().filter(|mask| mask.is_ipv4() == ip.is_ipv4());
        let mask = mask.ok_or_else(|| {
            format!(
                "'{shown}' is not a prefix length or netmask; write 192.0.2.0/24 or 192.0.2.0/255.255.255.0"
            )
        })?;
        prefix_length(mask).ok_or_else(|| {
            format!("netmask {shown} is not contiguous; write its 1 bits first, as in 255.255.255.0")
        })?
    };
    Ok(match ip {
        // The peers with such an address are IPv4 here.
        IpAddr::V6(v6) if length >= 96 && v6.to_ipv4_mapped().is_some() => {
            subnet(ip.to_canonical(), length - 96)
        }
        ip => subnet(ip, length),
    })
}

/// Returns the network that has the first `length` bits of `ip`.
fn subnet(ip: IpAddr, length: u32) -> Source {
    match ip {
        IpAddr::V4(ip) => {
            let (ip, rest) = (u32::from(ip), u32::MAX.checked_shr(length).unwrap_or(0));
            Source::Range(Ipv4Addr::from(ip & !rest).into(), Ipv4Addr::from(ip | rest).into())
        }
        IpAddr::V6(ip) => {
            let (ip, rest) = (u128::from(ip), u128::MAX.checked_shr(length).unwrap_or(0));
            Source::Range(Ipv6Addr::from(ip & !rest).into(), Ipv6Addr::from(ip | rest).into())
        }
    }
}

/// Returns how many 1 bits a netmask has, if no 0 is before one of them.
fn prefix_length(mask: IpAddr) -> Option<u32> {
    let (ones, leading) = match mask {
        IpAddr::V4(mask) => (u32::from(mask).count_ones(), u32::from(mask).leading_ones()),
        IpAddr::V6(mask) => (u128::from(mask).count_ones(), u128::from(mask).leading_ones()),
    };
    (ones == leading).then_some(ones)
}

fn range(first: IpAddr, last: &str) -> Result<Source, String> {
    let (first, last) = (first.to_canonical(), address(last)?.to_canonical());
    if first.is_ipv4() != last.is_ipv4() {
        return Err("a range cannot begin in one IP version and end in the other".to_owned());
    }
    if first > last {
        return Err(format!("reversed range; write {last}-{first}"));
    }
    Ok(Source::Range(first, last))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{}' is not an IP address", escape::shortened(text)))
}

/// Returns whether `text` can be a host name. One that ends in a number is a broken IPv4 address, which
/// getaddrinfo(3) would read as another one: 192.0.2 as 192.0.0.2.
fn is_host_name(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    let is_made_of = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !is_number && !text.starts_with(['-', '.']) && text.bytes().all(is_made_of)
}

/// Returns the number of an address of IPv6.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use std::net::SocketAddr;

    use super::*;

    fn access(allowed: &[&str], denied: &[&str]) -> Access {
        let sources = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        Lists::read(&sources(allowed), &sources(denied)).unwrap().resolve(Vec::new())
    }

    fn admitted(access: &Access, peers: &[&str]) -> Vec<bool> {
        peers
            .iter()
            .map(|peer| access.admits(Some(SocketAddr::new(peer.parse().unwrap(), 1).into())))
            .collect()
    }

    #[test]
    fn a_source_must_have_an_allowed_address_and_an_allowed_port() {
        let peers =
            ["192.0.2.1:53", "192.0.2.1:54", "192.0.2.9:53", "[2001:db8::1]:1023", "[2001:db8::1]:1024"];
        for (allowed, denied, admits) in [
            (&[":53"][..], &[][..], [true, false, true, false, false]),
            (&[":1-1023", ":1024"], &[":54"], [true, false, true, true, true]),
            (&["192.0.2.1", ":53"], &[], [true, false, false, false, false]),
            (&["192.0.2.1"], &[":53"], [false, true, false, false, false]),
            (&[], &["192.0.2.0/24", ":1024"], [false, false, false, true, false]),
            (&["@/dev/null", ":53"], &[], [false; 5]),
        ] {
            let access = access(allowed, denied);
            let admitted = peers.map(|peer| access.admits(peer.parse().ok()));
            assert_eq!(admitted, admits, "{allowed:?} {denied:?}");
        }
    }

    #[test]
    fn an_invalid_port_is_distinguished_from_an_ipv6_address() {
        let parse = |text: &str| text.parse::<Source>();
        assert_eq!(parse(":0"), Ok(Source::Ports(0, 0)));
        assert_eq!(parse(":1-65535"), Ok(Source::Ports(1, 65_535)));
        assert!(
            matches!(parse("::1"), Ok(Source::Range(..))) && matches!(parse("::/0"), Ok(Source::Range(..)))
        );
        assert_eq!(parse(":9-1"), Err("reversed range; write :1-9".to_owned()));
        for text in [":", ":-", ":1-", ":65536", ":dns", ":1/2", ":1 ", ":+1"] {
            assert!(parse(text).unwrap_err().starts_with("not a source port"), "{text}");
        }
    }

    #[test]
    fn without_an_access_list_every_source_is_accepted() {
        assert!(admitted(&Access::default(), &["192.0.2.1"])[0] && Access::default().admits(None));
    }

    #[test]
    fn a_source_must_be_allowed_and_not_denied() {
        let access = access(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.128/25", "2001:db8::1"]);
        let peers = ["192.0.2.1", "192.0.2.200", "198.51.100.1", "2001:db8::2", "2001:db8::1", "::1"];
        assert_eq!(admitted(&access, &peers), [true, false, false, true, false, false]);
        assert!(!access.admits(None));
    }

    #[test]
    fn the_addresses_of_the_hosts_are_added_to_the_list_that_names_them() {
        let hosts =
            |names: &[&str]| names.iter().map(|name| Source::Host((*name).to_owned())).collect::<Vec<_>>();
        let lists = Lists::read(&hosts(&["a.test", "b.test"]), &hosts(&["c.test"])).unwrap();
        assert!(lists.queries().iter().map(Query::to_string).eq(["a.test", "b.test", "c.test"]));
        let addresses = [&["192.0.2.1:0", "192.0.2.2:0"][..], &["[::ffff:192.0.2.3]:0"], &["192.0.2.2:0"]];
        let access =
            lists.resolve(addresses.map(|all| all.iter().map(|ip| ip.parse().unwrap()).collect()).into());
        let peers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        assert_eq!(admitted(&access, &peers), [true, false, true, false]);
    }

    #[test]
    fn an_ipv4_peer_is_the_same_on_a_dual_stack_socket() {
        for source in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "127.0.0.0/8",
            "::ffff:127.0.0.0/104",
            "::ffff:127.0.0.0/ffff:ffff:ffff:ffff:ffff:ffff:ff00:0",
            "::ffff:127.0.0.0-127.0.0.9",
        ] {
            let access = access(&[], &[source]);
            assert_eq!(admitted(&access, &["::ffff:127.0.0.1", "127.0.0.1"]), [false, false], "{source}");
        }
        // Only IPv6 itself.
        assert_eq!(admitted(&access(&[], &["::/0"]), &["127.0.0.1", "::1"]), [true, false]);
    }

    #[test]
    fn every_notation_is_a_range() {
        for (text, first, last) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.77"),
            ("192.0.2.77/24", "192.0.2.0", "192.0.2.255"),
            ("192.0.2.77/255.255.255.0", "192.0.2.0", "192.0.2.255"),
            ("192.0.2.1/255.255.255.255", "192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/0.0.0.0", "0.0.0.0", "255.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("192.0.2.10-192.0.2.20", "192.0.2.10", "192.0.2.20"),
            ("192.0.2.10 - 192.0.2.10", "192.0.2.10", "192.0.2.10"),
            ("2001:db8::1-2001:db8::f", "2001:db8::1", "2001:db8::f"),
            ("2001:db8::1/ffff:ffff::", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:0.0.0.0/96", "0.0.0.0", "255.255.255.255"),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Source::Range(first.parse().unwrap(), last.parse().unwrap())),
                "{text}"
            );
        }
        assert_eq!("my-host_1.example.org".parse(), Ok(Source::Host("my-host_1.example.org".to_owned())));
        assert_eq!("@a b".parse(), Ok(Source::List("a b".into())));
    }

    #[test]
    fn ranges_are_found_by_both_their_ends_however_they_overlap() {
        let access = access(
            &[
                "10.0.0.5-10.0.0.9",
                "10.0.0.0/30",
                "10.0.0.8-10.0.0.12",
                "10.0.0.6",
                "255.255.255.255",
                "0.0.0.0",
            ],
            &[],
        );
        let allowed: Vec<u8> = (0..=20).filter(|n| admitted(&access, &[&format!("10.0.0.{n}")])[0]).collect();
        assert_eq!(allowed, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(
            admitted(&access, &["0.0.0.0", "0.0.0.1", "255.255.255.254", "255.255.255.255"]),
            [true, false, false, true]
        );
    }

    /// A number that counts how often it is compared.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Counted<'c>(u32, &'c Cell<usize>);

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn among_100_000_ranges_a_peer_takes_a_few_comparisons() {
        let count = Cell::new(0);
        let ranges =
            merged((0..100_000).map(|n| (Counted(n * 4, &count), Counted(n * 4 + 1, &count))).collect());
        for (ip, expected) in [(0, true), (2, false), (200_001, true), (399_997, true), (500_000, false)] {
            count.set(0);
            assert_eq!(is_in(&ranges, Counted(ip, &count)), expected, "{ip}");
            assert!(count.get() < 25, "{}", count.get());
        }
    }

    #[test]
    fn an_invalid_source_is_an_error_with_the_reason() {
        for (text, reason) in [
            ("", "not an address, network, range, host name or @FILE"),
            ("192.0.2", "not an address, network"),
            ("192.0.2.256", "not an address, network"),
            ("0x7f.0x1", "not an address, network"),
            ("192.0.2.1:53", "not an address, network"),
            ("fe80::1%eth0", "not an address, network"),
            ("-host", "not an address, network"),
            ("two words", "not an address, network"),
            ("/8", "'' is not an IP address"),
            ("host/8", "'host' is not an IP address"),
            ("192.0.2.0/33", "prefix length 33 is larger than 32"),
            ("192.0.2.0/99999999999", "prefix length 99999999999 is larger than 32"),
            ("::/129", "prefix length 129 is larger than 128"),
            ("192.0.2.0/", "'' is not a prefix length or netmask"),
            ("192.0.2.0/+8", "'+8' is not a prefix length or netmask"),
            ("192.0.2.0/ffff::", "'ffff::' is not a prefix length or netmask"),
            ("192.0.2.0/255.0.255.0", "netmask 255.0.255.0 is not contiguous"),
            ("192.0.2.0/0.0.0.255", "netmask 0.0.0.255 is not contiguous"),
            ("192.0.2.20-192.0.2.10", "reversed range; write 192.0.2.10-192.0.2.20"),
            ("192.0.2.10-20", "'20' is not an IP address"),
            ("192.0.2.10-::1", "a range cannot begin in one IP version"),
            ("@", "no file name after @"),
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }
}
