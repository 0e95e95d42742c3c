//! `raw`: blocks, one behind the other, are all of the input.

#![no_main]

use udp_tools::flow::codec::Reading;
use udp_tools::format::Format;
use udp_tools_fuzz::{Case, payloads, reading, written};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    // 0 is not a size on a command line.
    let block = Some(case.choice % 128 * (case.choice / 128 * 100 + 1)).filter(|size| *size > 0);
    let found = case.check(&Reading { block, ..reading(Format::Raw) });
    if found.bad.is_empty() {
        let blocks = case.input.chunks(block.unwrap_or(case.input.len()).max(1));
        assert!(payloads(&found.datagrams).eq(blocks));
        let writing = Format::Raw.into();
        assert_eq!(written(writing, &found.datagrams), case.input);
    }
});
