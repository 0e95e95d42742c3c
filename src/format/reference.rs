//! Writers and readers that are as simple as can be, and look at each datagram anew: those of the formats are compared
//! with them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER};
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{reading_in_steps, written as written_in};
use super::{Bad, Columns, Format, ReadError, RecordReader, To};
use crate::batch::{Answered, Batch, Datagram, Envelope, Fate, Headers, Received, Relayed, Stamp};
use crate::encoding::{Encoding, Policy};
use crate::escape;
use crate::flow::codec::{Codec, Reading, Records, Writer, Writing};
use crate::net::Zone;
use crate::net::addr::Addr;
use crate::net::unix::Credentials;

/// Returns the output of a datagram, unless it cannot be decoded.
fn written(writing: &Writing, datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    let Writing { codec, columns, for_terminal, .. } = *writing;
    let format = codec.formats.output;
    let (mut decoded, policy) =
        (Vec::new(), if format.is_text() { Policy::BackslashReplace } else { Policy::Strict });
    let mut datagram = *datagram;
    if codec.encoding.charset.is_some() && format.has_charset() {
        match codec.encoding.decode(datagram.payload, policy, &mut decoded) {
            Ok(()) => datagram.payload = &decoded,
            Err(_) if format.is_text() => return None,
            Err(_) => datagram.is_binary = true,
        }
    }
    let columns = if format.has_lines() { columns } else { Columns::default() };
    let mut out = String::new();
    if columns.time {
        out += &rfc3339(datagram.envelope.received.time);
        out.push('\t');
    }
    if columns.peer {
        out += &datagram.envelope.from.map_or("-".to_owned(), |from| from.to_string());
        out.push('\t');
    }
    let mut out = out.into_bytes();
    let empty = "\t".repeat(usize::from(columns.time) + usize::from(columns.peer));
    let payload = datagram.payload;
    out.extend(match format {
        Format::Text if for_terminal => shown(payload, &empty),
        Format::Text => lines(payload, &empty),
        Format::Raw => payload.to_vec(),
        Format::Nul => ended(payload, 0, &empty),
        Format::Hex => line(HEXLOWER.encode(payload)),
        Format::Base64 => line(BASE64.encode(payload)),
        Format::Escaped => line(escaped(payload)),
        Format::Json => line(object(&datagram)),
        Format::Framed => [&u16::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat(),
        Format::Pcap => packet(&datagram),
    });
    Some(out)
}

fn line(text: String) -> Vec<u8> {
    (text + "\n").into_bytes()
}

fn rfc3339(time: Option<SystemTime>) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or(String::new(), |time| format!("{time:.9}"))
}

/// Returns the parts of `payload`, each with an `end` but perhaps the last, behind `empty` columns but for the first.
fn ended(payload: &[u8], end: u8, empty: &str) -> Vec<u8> {
    let parts: Vec<_> = payload.split_inclusive(|byte| *byte == end).collect();
    let mut out = parts.join(empty.as_bytes());
    if !payload.ends_with(&[end]) {
        out.push(end);
    }
    out
}

/// Returns `payload` with a newline at its end, and with the `empty` columns behind each end of a line in it.
fn lines(payload: &[u8], empty: &str) -> Vec<u8> {
    let is_text = str::from_utf8(payload).is_ok();
    let mut out = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let unicode = ["\u{85}", "\u{2028}", "\u{2029}"];
        let in_unicode = unicode.iter().find(|end| is_text && rest.starts_with(end.as_bytes()));
        let len = match rest {
            [b'\r', b'\n', ..] => 2,
            [0x0a..=0x0d | 0x1c..=0x1e, ..] => 1,
            _ => in_unicode.map_or(0, |end| end.len()),
        };
        out.extend(&rest[..len.max(1)]);
        rest = &rest[len.max(1)..];
        if len > 0 && !rest.is_empty() {
            out.extend(empty.as_bytes());
        }
    }
    if !payload.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}

/// Returns `payload` as it is safe on a terminal: one line, or behind columns one for each of its lines.
fn shown(payload: &[u8], empty: &str) -> Vec<u8> {
    let lines = match empty {
        "" => vec![payload],
        _ => payload.split_inclusive(|byte| *byte == b'\n').collect(),
    };
    let shown: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = match line.strip_suffix(b"\n") {
                Some(text) => text.strip_suffix(b"\r").unwrap_or(text),
                None => line,
            };
            safe(text, |c| match c {
                '\n' => Some("\\n".to_owned()),
                '\r' => Some("\\r".to_owned()),
                c if !escape::is_unsafe(c) => None,
                c if c.is_ascii() => Some(format!("\\x{:02x}", u32::from(c))),
                c => Some(format!("\\u{:04x}", u32::from(c))),
            }) + "\n"
        })
        .collect();
    if shown.is_empty() { b"\n".to_vec() } else { shown.join(empty).into_bytes() }
}

/// Returns `text` with characters that have an `escape` replaced by that, and bytes that are not UTF-8 as `\xNN`.
fn safe(text: &[u8], escape: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::new();
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match escape(c) {
                Some(escape) => out += &escape,
                None => out.push(c),
            }
        }
        out += &escape::bytes(chunk.invalid());
    }
    out
}

fn escaped(payload: &[u8]) -> String {
    let mut out = safe(payload, |c| match c {
        '\n' => Some("\\n".to_owned()),
        '\r' => Some("\\r".to_owned()),
        '\t' => Some("\\t".to_owned()),
        '\\' => Some("\\\\".to_owned()),
        // Followed by what is not in any output.
        '\0' => Some("\\0\0".to_owned()),
        c if escape::is_unsafe(c) => Some(escape::bytes(c.to_string().as_bytes())),
        _ => None,
    });
    for digit in '0'..='9' {
        out = out.replace(&format!("\\0\0{digit}"), &format!("\\x00{digit}"));
    }
    out.replace('\0', "")
}

fn object(datagram: &Datagram<'_>) -> String {
    let Datagram { payload, envelope, .. } = datagram;
    let received = envelope.received;
    let mut out = "{".to_owned();
    let mut member = |key: &str, value: String| write!(out, "\"{key}\":{value},").unwrap();
    let time = rfc3339(received.time);
    if !time.is_empty() {
        member("time", format!("\"{time}\""));
    }
    for (key, address) in [("from", envelope.from), ("to", envelope.to)] {
        if let Some(address) = address {
            member(key, string(&address.to_string()));
        }
    }
    let seconds = |time: Duration| format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    if let Some(Answered { request, round_trip, latency }) = received.answered {
        member("request", request.to_string());
        member("rtt", seconds(round_trip));
        if let Some(latency) = latency {
            member("latency", seconds(latency));
        }
    }
    if let Some(Relayed { session, fate }) = received.relayed {
        member("session", session.to_string());
        member("fate", format!("\"{}\"", fate.key()));
    }
    let Headers { ttl, traffic_class, interface } = received.headers;
    if let Some(ttl) = ttl {
        member("ttl", ttl.to_string());
    }
    if let Some(class) = traffic_class {
        member("dscp", (class / 4).to_string());
        member("ecn", (class % 4).to_string());
    }
    if let Some(number) = interface {
        member("interface", format!("\"{}\"", Zone(number.get())));
    }
    if let Some(Credentials { pid, uid, gid }) = received.credentials {
        if pid != 0 {
            member("pid", pid.to_string());
        }
        member("uid", uid.to_string());
        member("gid", gid.to_string());
    }
    member("size", datagram.size.to_string());
    if let Some(stamp) = datagram.stamp() {
        member("seq", stamp.sequence.to_string());
        if let Some(delay) = received.time.map(|time| stamp.delay(time)) {
            let sign = if delay < 0 { "-" } else { "" };
            member("delay", format!("{sign}{}", seconds(Duration::from_nanos(delay.unsigned_abs()))));
        }
    }
    match str::from_utf8(payload) {
        Ok(text) if !datagram.is_binary => member("text", string(text)),
        _ => member("base64", format!("\"{}\"", BASE64.encode(payload))),
    }
    out.pop();
    out + "}"
}

/// Returns a string of JSON that is safe to look at.
fn string(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            c if escape::is_unsafe(c) => write!(out, "\\u{:04x}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out + "\""
}

fn packet(datagram: &Datagram<'_>) -> Vec<u8> {
    let Envelope { from, to, received } = datagram.envelope;
    let since = received.time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let [from, to] = [from, to].map(|address| address.and_then(Addr::socket_addr).unwrap_or(unknown));
    let length = u16::try_from(UdpHeader::LEN + datagram.size).unwrap_or(u16::MAX);
    let (source_port, destination_port) = (from.port(), to.port());
    let mut udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
    let is_whole = datagram.payload.len() == datagram.size;
    let mut packet = Vec::new();
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) {
        let mut ip = Ipv4Header {
            total_len: u16::try_from(Ipv4Header::MIN_LEN + usize::from(length)).unwrap_or(u16::MAX),
            dont_fragment: true,
            time_to_live: 64,
            protocol: IpNumber::UDP,
            source: source.octets(),
            destination: destination.octets(),
            ..Ipv4Header::default()
        };
        ip.header_checksum = ip.calc_header_checksum();
        if is_whole {
            udp.checksum = udp.calc_checksum_ipv4(&ip, datagram.payload).unwrap_or(0);
        }
        packet.extend(ip.to_bytes());
    } else {
        let [source, destination] = [from, to].map(|address| match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        });
        let ip = Ipv6Header {
            payload_length: length,
            next_header: IpNumber::UDP,
            hop_limit: 64,
            source,
            destination,
            ..Ipv6Header::default()
        };
        if is_whole {
            udp.checksum = udp.calc_checksum_ipv6(&ip, datagram.payload).unwrap_or(0);
        }
        packet.extend(ip.to_bytes());
    }
    packet.extend(udp.to_bytes());
    let whole = packet.len() + datagram.size;
    packet.extend(datagram.payload);
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    let [kept, whole] = [packet.len(), whole].map(|length| u32::try_from(length).unwrap());
    let fields = [seconds, since.subsec_nanos(), kept, whole];
    [fields.iter().flat_map(|field| field.to_le_bytes()).collect(), packet].concat()
}

/// Returns any payload: any bytes, plain text, or text with all that is special in some format.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let characters = "a0 9\\\"\t\r\n\u{0}\u{b}\u{1c}\u{1b}\u{7f}\u{85}\u{9b}é你\u{61c}ة\u{200f}\u{2028}\u{202e}…\u{ffff}👩";
    let characters: Vec<_> = characters.chars().collect();
    let special = vec(prop::sample::select(characters), 0..60);
    prop_oneof![
        3 => vec(any::<u8>(), 0..100),
        3 => vec(b' '..=b'~', 0..200),
        3 => special.prop_map(|text| text.into_iter().collect::<String>().into_bytes()),
        1 => vec(prop::sample::select(b"ab\n\0\xc2\x85\xe2\x80\xa8\xff".to_vec()), 0..40),
        1 => vec(any::<u8>(), 1000..3000),
    ]
}

fn addresses() -> impl Strategy<Value = Option<Addr>> {
    let addresses = [
        "192.0.2.1:53",
        "192.0.2.2:53",
        "[2001:db8::1]:53",
        "[fe80::1%4294967295]:7",
        "unix:/a",
        "unix:@\"é",
    ];
    let addresses = addresses.map(|address| address.parse().unwrap());
    prop::option::weighted(0.8, prop::sample::select(addresses.to_vec()))
}

fn times() -> impl Strategy<Value = SystemTime> {
    let since = |(seconds, nanoseconds)| Duration::new(seconds, nanoseconds);
    let after =
        (prop_oneof![4 => 0..3_u64, 1 => 0..400_000_000_000_u64], 0..1_000_000_000_u32).prop_map(since);
    prop_oneof![
        4 => after.prop_map(|since| SystemTime::UNIX_EPOCH + since),
        1 => (0..3_u64, 0..1_000_000_000_u32).prop_map(since).prop_map(|since| SystemTime::UNIX_EPOCH - since),
    ]
}

fn receipts() -> impl Strategy<Value = Received> {
    let durations = || (0..3_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
    let answered = (1..9_u64, durations(), prop::option::of(durations()))
        .prop_map(|(request, round_trip, latency)| Answered { request, round_trip, latency });
    let relayed = (1..9_u64, prop::sample::select(Fate::ALL.to_vec()))
        .prop_map(|(session, fate)| Relayed { session, fate });
    let headers = (any::<Option<u8>>(), any::<Option<u8>>(), prop::option::of(u32::MAX - 1..)).prop_map(
        |(ttl, traffic_class, interface)| Headers {
            ttl,
            traffic_class,
            interface: interface.and_then(NonZeroU32::new),
        },
    );
    let credentials = (0..3, 0..3_u32, 0..3_u32).prop_map(|(pid, uid, gid)| Credentials { pid, uid, gid });
    let rarely = 0.2;
    (
        prop::option::weighted(0.7, times()),
        prop::option::weighted(rarely, answered),
        prop::option::weighted(rarely, relayed),
        prop::option::weighted(rarely, headers),
        prop::option::weighted(rarely, credentials),
    )
        .prop_map(|(time, answered, relayed, headers, credentials)| Received {
            time,
            answered,
            relayed,
            headers: headers.unwrap_or_default(),
            credentials,
        })
}

/// Payloads, and the envelope that they share.
type Run = (Envelope, Vec<(Vec<u8>, Kind)>);

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let envelopes = (addresses(), addresses(), receipts()).prop_map(|(from, to, received)| Envelope {
        received,
        from,
        to,
    });
    let kinds = prop_oneof![
        6 => Just(Kind::Whole),
        1 => Just(Kind::Binary),
        1 => (1..100_usize).prop_map(Kind::Truncated),
        1 => (0..9_u64, 0..2_000_000_000_u64).prop_map(|(sequence, time)| Kind::Stamped(Stamp { sequence, time })),
    ];
    vec((envelopes, vec((payloads(), kinds), 1..4)), 0..4)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Whole,
    /// It is known not to be text.
    Binary,
    /// As many bytes more were on the wire.
    Truncated(usize),
    Stamped(Stamp),
}

fn batch(runs: &[Run]) -> Batch {
    let mut batch = Batch::new();
    for (envelope, payloads) in runs {
        batch.address(*envelope);
        for (payload, kind) in payloads {
            match *kind {
                Kind::Whole => batch.push(payload),
                Kind::Binary => {
                    let (size, ordinal, is_binary, header) = (payload.len(), 1, true, None);
                    let datagram = Datagram { payload, size, envelope, ordinal, is_binary, header };
                    batch.push_decoded(&datagram, |_, _| Err(())).unwrap_err();
                }
                Kind::Truncated(more) => {
                    batch.spare(payload.len() + more)[..payload.len()].copy_from_slice(payload);
                    batch.take_cut(payload.len() + more, payload.len());
                }
                Kind::Stamped(stamp) => {
                    batch.push_stamped(stamp, payload);
                    batch.take_stamps(batch.len() - 1..batch.len(), usize::MAX);
                }
            }
        }
    }
    batch
}

proptest! {
    #[test]
    fn a_format_is_written_as_a_simple_writer_writes_it(
        batches in vec(runs(), 1..3),
        time in any::<bool>(),
        peer in any::<bool>(),
        for_terminal in any::<bool>(),
        charset in prop::sample::select(vec![None, "gbk".parse().ok()]),
        errors in prop::sample::select(vec![None, Some(Policy::Strict)]),
    ) {
        for format in Format::ALL {
            let codec = Codec { encoding: Encoding { charset, errors }, ..format.into() };
            let columns = Columns { time, peer };
            let writing = Writing { codec, columns, for_terminal, is_continued: false };
            let mut writer = Writer::new(writing);
            for runs in &batches {
                let batch = batch(runs);
                let (mut out, mut ends) = (Vec::new(), Vec::new());
                writer.write_all(&batch, &mut out, &mut ends);
                let (mut expected, mut expected_ends) = (Vec::new(), Vec::new());
                for datagram in batch.iter() {
                    if let Some(written) = written(&writing, &datagram) {
                        expected.extend(written);
                        expected_ends.push(expected.len());
                    }
                }
                prop_assert_eq!(escape::text(&out), escape::text(&expected), "{}", format);
                prop_assert!(out == expected && ends == expected_ends, "{}", format);
            }
        }
    }
}

/// Returns the datagrams of an input, with their ordinals, and the records that are none: each record is found, and read,
/// on its own.
fn found(codec: Codec, input: &[u8]) -> (Vec<(u64, Vec<u8>)>, Vec<Bad>) {
    let format = codec.formats.input;
    let end = if format == Format::Nul { 0 } else { b'\n' };
    let records: Vec<_> = match format {
        Format::Framed => frames(input),
        _ => input.split_inclusive(|byte| *byte == end).collect(),
    };
    let mut reader = Records::new(codec, &To::OnePeer);
    let (mut datagrams, mut bad) = (Vec::new(), Vec::new());
    for (ordinal, record) in (1..).zip(records) {
        let record =
            if format == Format::Framed { record } else { record.strip_suffix(&[end]).unwrap_or(record) };
        let mut batch = Batch::new();
        match reader.read(record, &mut batch) {
            Ok(_) => datagrams.extend(batch.iter().map(|datagram| (ordinal, datagram.payload.to_vec()))),
            Err(ReadError::Bad(what)) => bad.push(Bad::new(ordinal, what)),
            Err(unresolved @ ReadError::Unresolved(..)) => panic!("{unresolved}"),
        }
    }
    (datagrams, bad)
}

/// Returns the frames that are complete.
fn frames(mut input: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let [high, low, rest @ ..] = input
        && let Some((frame, rest)) = rest.split_at_checked(usize::from(*high) << 8 | usize::from(*low))
    {
        frames.push(frame);
        input = rest;
    }
    frames
}

/// What is written in a format: a payload, with a wrong byte somewhere perhaps, or any text.
#[derive(Clone, Debug)]
enum Line {
    Whole(Vec<u8>),
    Wrong(Vec<u8>, prop::sample::Index, u8),
    Crlf(Vec<u8>),
    Text(String),
}

fn inputs() -> impl Strategy<Value = Vec<Line>> {
    let special = b"\n\r =-:g0AQ\\x{\0\xff".to_vec();
    let of_a_size =
        prop::sample::select(vec![0, 1, 2, 3, 4, 16, 63]).prop_flat_map(|size| vec(any::<u8>(), size));
    let payloads = || prop_oneof![payloads(), of_a_size.clone()];
    let wrong = (payloads(), any::<prop::sample::Index>(), prop::sample::select(special));
    let lines = |weight| {
        prop_oneof![
            weight => payloads().prop_map(Line::Whole),
            1 => wrong.clone().prop_map(|(payload, at, byte)| Line::Wrong(payload, at, byte)),
            1 => payloads().prop_map(Line::Crlf),
            1 => prop::sample::select(vec!["00000000: 304a", "00000010"]).prop_map(|dump| Line::Text(dump.to_owned())),
            1 => "[0-9a-f :\\\\x=+/{}\r]{0,30}|.{0,20}".prop_map(Line::Text),
        ]
    };
    let plain = vec(of_a_size.clone().prop_map(Line::Whole), 0..60);
    prop_oneof![vec(lines(1), 0..20), vec(lines(60), 0..60), plain]
}

/// Returns an input in `format`. Every line of text ends in a newline but perhaps the last.
fn input(format: Format, lines: &[Line], is_ended: bool) -> Vec<u8> {
    let mut input: Vec<u8> = lines
        .iter()
        .flat_map(|line| match line {
            Line::Whole(payload) => written_in(format, &[payload]),
            Line::Wrong(payload, at, byte) => {
                let mut line = written_in(format, &[payload]);
                let at = at.index(line.len());
                line[at] = *byte;
                line
            }
            Line::Crlf(payload) => {
                let mut line = written_in(format, &[payload]);
                line.insert(line.len() - 1, b'\r');
                line
            }
            Line::Text(text) => [text.as_bytes(), b"\n"].concat(),
        })
        .collect();
    if !is_ended {
        input.pop();
    }
    input
}

proptest! {
    #[test]
    fn an_input_is_read_as_its_records_are_one_by_one(
        lines in inputs(),
        is_ended in any::<bool>(),
        step in prop::sample::select(vec![1, 30, 1000, usize::MAX]),
        label in prop::sample::select(vec![None, Some("gbk"), Some("utf-16"), Some("latin-1")]),
        errors in prop::sample::select(vec![None, Some(Policy::Replace), Some(Policy::Ignore)]),
    ) {
        use Format::{Base64, Escaped, Framed, Hex, Json, Nul, Text};

        let charset = label.map(|label| label.parse().unwrap());

        for format in [Text, Nul, Hex, Base64, Escaped, Json, Framed] {
            let codec = Codec { encoding: Encoding { charset, errors }, ..format.into() };
            let input = input(format, &lines, is_ended);
            let (datagrams, bad) = found(codec, &input);
            let mut read = reading_in_steps(Reading { codec, ..Reading::default() }, &input, step);
            if format == Framed {
                // What is wrong with a frame is where the input ends, which is tested beside it.
                read.bad.clear();
            }
            prop_assert_eq!(&read.bad, &bad, "{}", format);
            prop_assert_eq!(&read.datagrams, &datagrams, "{}", format);
        }
    }
}
