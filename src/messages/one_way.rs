//! The sentences about the path of stamped datagrams.

use super::percent;
use super::statistics::millis;
use crate::batch::Stamp;
use crate::net::addr::Addr;
use crate::stats::one_way::{OneWay, Senders};

/// The most senders whose numbers are printed.
const SHOWN: usize = 10;

/// Returns the numbers of the first senders, in a line each, and how many others there are.
pub(super) fn one_way(senders: &Senders) -> Vec<String> {
    let mut lines: Vec<_> = senders.iter().take(SHOWN).map(|(from, sender)| line(*from, sender)).collect();
    match senders.iter().len().saturating_sub(SHOWN) {
        0 => {}
        1 => lines.push("and 1 other sender".to_owned()),
        others => lines.push(format!("and {others} other senders")),
    }
    if senders.of_further_senders > 0 {
        let (number, known) = (senders.of_further_senders, senders.iter().len());
        lines.push(format!("statistics cover {known} senders; others sent {number} datagrams"));
    }
    lines
}

fn line(from: Option<Addr>, sender: &OneWay) -> String {
    let from = from.map_or_else(|| "an unnamed sender".to_owned(), |from| from.to_string());
    let (expected, lost, reordered) = (sender.expected(), sender.lost(), sender.reordered);
    let mut parts = vec![
        format!("expected {expected}, lost {lost} ({:.1} %)", percent(lost, expected)),
        format!("duplicate {}", sender.duplicate),
        if reordered == 0 {
            "reordered 0".to_owned()
        } else {
            let ratio = percent(reordered, sender.arrived());
            format!("reordered {reordered} ({ratio:.1} %, extent up to {})", sender.extent)
        },
    ];
    for (name, number) in [("too late", sender.too_late), ("restarts", sender.restarts)] {
        if number > 0 {
            parts.push(format!("{name} {number}"));
        }
    }
    parts.push(format!("jitter {} ms", millis(sender.jitter.value())));
    let variation = &sender.variation;
    let [p50, p90, p99, p99_9] =
        [0.5, 0.9, 0.99, 0.999].map(|quantile| millis(variation.at_quantile(quantile)));
    let max = millis(variation.greatest());
    parts.push(format!("delay variation p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max} ms"));
    format!("from {from}: {}", parts.join(", "))
}

/// Returns how many datagrams had no stamp, in one sentence, if any had none.
#[must_use]
pub fn not_stamped(number: u64) -> Option<String> {
    let why = format!("shorter than {} bytes, or not sent with udp-send --stamp", Stamp::LEN);
    match number {
        0 => None,
        1 => Some(format!("1 datagram was not stamped ({why})")),
        _ => Some(format!("{number} datagrams were not stamped ({why})")),
    }
}
