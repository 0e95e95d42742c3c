//! `pcap`: captures of both kinds. Who, where and when are kept.

#![no_main]

use udp_tools::flow::codec::Reading;
use udp_tools::format::{Format, To};
use udp_tools::net::endpoint::Family;
use udp_tools_fuzz::{Case, payloads, read_again, reading, to, written};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    let reading = Reading { to: to(case.choice), ..reading(Format::Pcap) };
    let found = case.check(&reading);
    assert!(found.datagrams.iter().all(|owned| owned.envelope.from.is_some()));
    if matches!(reading.to, To::Each(None, _)) {
        let again = written(Format::Pcap.into(), &found.datagrams);
        let again = read_again(Reading { to: To::Each(None, Family::Any), ..reading }, &again);
        assert!(payloads(&again).eq(payloads(&found.datagrams)));
        for (was, is) in found.datagrams.iter().zip(&again) {
            let addresses = |owned: &udp_tools_fuzz::Owned| (owned.envelope.to, owned.envelope.from);
            assert_eq!(addresses(was), addresses(is));
        }
    }
});
