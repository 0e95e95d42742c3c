//! `endpoint`: what people write on a command line is understood or refused, and shown as it was written, up to 80
//! characters; a unix socket is shown in one word that is read back.

#![no_main]

use udp_tools::cli::value;
use udp_tools::encoding::Charset;
use udp_tools::escape;
use udp_tools::net::endpoint::{Endpoint, Family};
use udp_tools::tools::chat::command;
// No name is looked up.
use udp_tools_fuzz as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = (command::parse_piped(data), command::parse_typed(data));
    let Ok(text) = str::from_utf8(data) else { return };
    for parse in [Endpoint::here, Endpoint::remote, Endpoint::source, Endpoint::remote_or_here] {
        match parse(text) {
            Ok(endpoint) if endpoint.is_unix() => {
                let address =
                    endpoint.addresses_here(Family::Any).expect("a name, which needs no look-up")[0];
                let shown = address.to_string();
                assert!(
                    !shown.contains(char::is_whitespace) && !shown.contains(char::is_control),
                    "{shown:?}"
                );
                assert_eq!(Endpoint::here(&shown), Ok(endpoint));
            }
            Ok(endpoint) => assert_eq!(endpoint.to_string(), escape::shortened(text)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    // What is to be sent to is a place to bind as well, and has a port.
    if let Ok(endpoint) = Endpoint::remote(text) {
        assert_eq!(Endpoint::here(text).as_ref(), Ok(&endpoint));
        for address in endpoint.addresses_there(Family::Any).into_iter().flatten() {
            assert_ne!(address.port(), Some(0));
        }
    }
    if let Ok(charset) = text.parse::<Charset>() {
        assert_eq!(charset.to_string().parse::<Charset>().ok(), Some(charset));
    }
    let _ = (value::count(text), value::duration(text), value::size(text), value::payload_size(text));
    let _ = (value::rate(text), value::speed(text));
});
