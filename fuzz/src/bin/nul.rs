//! `nul`: what is between two ends is a datagram.

#![no_main]

use udp_tools::format::Format;
use udp_tools_fuzz::{Case, lines, payloads, reading};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    let found = case.check(&reading(Format::Nul));
    assert!(payloads(&found.datagrams).eq(lines(case.input, 0)));
    found.accounts_for(lines(case.input, 0).count());
});
