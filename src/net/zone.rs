//! Zones of IPv6 addresses: which have one, and an interface's name ⇄ its number.
//!
//! A zone is printed by its name where the name can be read back, and otherwise by its number.

use std::cell::RefCell;
use std::fmt;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use nix::net::if_::{if_indextoname, if_nametoindex};

/// How long a name is believed: an interface can be renamed. To ask for one takes three system calls.
const FRESH: Duration = Duration::from_secs(1);
/// How many names are kept.
const NAMES: usize = 16;

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// The name of an interface when it was last asked for.
struct Known {
    number: u32,
    name: Option<String>,
    asked: Instant,
}

/// The zone of this number, as it is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone(pub(crate) u32);

impl Zone {
    /// Returns the zone that `text` names, by the name of an interface or by its number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Digits are a number, even where an interface has them for a name: Zone prints no such name.
        let number = text.parse().ok().or_else(|| if_nametoindex(text).ok());
        number.filter(|number| *number != 0).map(Self)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = *self;
        let now = Instant::now();
        KNOWN.with_borrow_mut(|known| {
            known.retain(|known| now.duration_since(known.asked) < FRESH);
            let place = known.iter().position(|known| known.number == number).unwrap_or_else(|| {
                if known.len() == NAMES {
                    known.clear();
                }
                known.push(Known { number, name: name(number), asked: now });
                known.len() - 1
            });
            match &known[place].name {
                Some(name) => f.write_str(name),
                None => write!(f, "{number}"),
            }
        })
    }
}

/// Returns the name of interface `number`, if it can be read back and is safe to look at.
fn name(number: u32) -> Option<String> {
    let name = if_indextoname(number).ok()?.into_string().ok()?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_plain && !name.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Returns whether an address means nothing without its zone: it is on every network. Multicast has its scope in the
/// fourth digit, which up to 2 is a link (RFC 4291, section 2.7).
pub(super) fn is_of_a_zone(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback has the first number on Linux in every network namespace.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_zone_is_read_by_name_and_number_and_printed_by_name() {
        for text in ["lo", "1"] {
            assert_eq!(Zone::parse(text).map(|zone| zone.to_string()), Some("lo".to_owned()));
        }
    }

    #[test]
    fn a_zone_without_an_interface_is_printed_by_its_number() {
        for number in [u32::MAX, u32::MAX - 1, u32::MAX] {
            assert_eq!(Zone(number).to_string(), number.to_string());
        }
        for text in ["", "0", "no such", "-1", "4294967296"] {
            assert!(Zone::parse(text).is_none(), "{text}");
        }
    }
}
