//! `hex`: every line is a datagram, or bad.

#![no_main]

use udp_tools::format::Format;
use udp_tools_fuzz::{Case, lines, reading};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    let found = case.check(&reading(Format::Hex));
    found.accounts_for(lines(case.input, b'\n').count());
});
