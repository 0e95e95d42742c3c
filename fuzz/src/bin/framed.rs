//! `framed`: what was read is the input, but for a frame at the end that is not whole.

#![no_main]

use udp_tools::format::Format;
use udp_tools_fuzz::{Case, reading, written};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    let found = case.check(&reading(Format::Framed));
    found.accounts_for(found.datagrams.len() + found.bad.len());
    let whole = written(Format::Framed.into(), &found.datagrams);
    assert!(case.input.starts_with(&whole));
    assert_eq!(found.bad.len(), usize::from(whole.len() < case.input.len()));
});
