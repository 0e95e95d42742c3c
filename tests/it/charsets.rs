//! Charsets on the wire, in both directions.

use std::time::Instant;

use crate::harness::{DEADLINE, Peer, Printed, Tool};
use udp_tools::encoding::{Charset, Encoding, Policy};

/// A text, a label and the bytes that the text has in that charset, as Python 3.11 wrote them.
const SAMPLES: &[(&str, &str, &[u8])] = &[
    ("你好", "gbk", b"\xc4\xe3\xba\xc3"),
    ("你好", "GB2312", b"\xc4\xe3\xba\xc3"),
    ("你好", "cp936", b"\xc4\xe3\xba\xc3"),
    ("你好", "utf_8", b"\xe4\xbd\xa0\xe5\xa5\xbd"),
    ("你好", "utf_16_le", b"\x60\x4f\x7d\x59"),
    ("你好", "UTF-16BE", b"\x4f\x60\x59\x7d"),
    ("你", "utf-16", b"\xff\xfe\x60\x4f"),
    ("\u{1f600}", "utf-16-le", b"\x3d\xd8\x00\xde"),
    ("\u{1f600}", "utf-32-be", b"\x00\x01\xf6\x00"),
    ("é", "utf_32_le", b"\xe9\x00\x00\x00"),
    ("é", "utf32", b"\xff\xfe\x00\x00\xe9\x00\x00\x00"),
    ("é", "utf_8_sig", b"\xef\xbb\xbf\xc3\xa9"),
    ("\u{1f600}㐀", "gb18030", b"\x94\x39\xfc\x36\x81\x39\xee\x39"),
    ("繁體", "big5", b"\xc1\x63\xc5\xe9"),
    ("こんにちは", "shift_jis", b"\x82\xb1\x82\xf1\x82\xc9\x82\xbf\x82\xcd"),
    ("漢ｱ", "cp932", b"\x8a\xbf\xb1"),
    ("日本", "euc_jp", b"\xc6\xfc\xcb\xdc"),
    ("a日本", "iso2022_jp", b"a\x1b$BF|K\\\x1b(B"),
    ("안녕", "euc-kr", b"\xbe\xc8\xb3\xe7"),
    ("안녕", "cp949", b"\xbe\xc8\xb3\xe7"),
    ("é\u{80}ÿ", "latin-1", b"\xe9\x80\xff"),
    ("é", "iso-8859-1", b"\xe9"),
    ("€", "latin9", b"\xa4"),
    ("ğ\u{80}", "iso8859-9", b"\xf0\x80"),
    ("€ž", "windows-1252", b"\x80\x9e"),
    ("Привет", "cp1251", b"\xcf\xf0\xe8\xe2\xe5\xf2"),
    ("Привет", "koi8-r", b"\xf0\xd2\xc9\xd7\xc5\xd4"),
    ("Привет", "cp866", b"\x8f\xe0\xa8\xa2\xa5\xe2"),
    ("plain", "us-ascii", b"plain"),
];

fn encoding(label: &str, errors: Option<Policy>) -> Encoding {
    Encoding {
        charset: Some(label.parse::<Charset>().unwrap_or_else(|error| panic!("{label}: {error}"))),
        errors,
    }
}

fn encoded(label: &str, errors: Option<Policy>, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoded = Vec::new();
    encoding(label, errors).encode(text, &mut encoded).map(|()| encoded)
}

fn decoded(label: &str, errors: Option<Policy>, bytes: &[u8]) -> Result<String, String> {
    let mut decoded = Vec::new();
    encoding(label, errors).decode(bytes, Policy::BackslashReplace, &mut decoded)?;
    Ok(String::from_utf8(decoded).unwrap())
}

#[test]
fn texts_have_the_bytes_that_python_gives_them_and_the_reverse() {
    for (text, label, bytes) in SAMPLES {
        assert_eq!(encoded(label, None, text.as_bytes()).as_deref(), Ok(*bytes), "{text} in {label}");
        assert_eq!(decoded(label, None, bytes).as_deref(), Ok(*text), "{text} in {label}");
    }
}

#[test]
fn unencodable_characters_are_handled_as_python_does() {
    for (policy, expected) in [
        (Policy::Ignore, &b"ab"[..]),
        (Policy::Replace, b"a??b"),
        (Policy::BackslashReplace, b"a\\u4f60\\U0001f600b"),
        (Policy::XmlCharRefReplace, b"a&#20320;&#128512;b"),
    ] {
        for label in ["latin-1", "ascii", "windows-1252", "iso8859-9", "koi8-r"] {
            let bytes = encoded(label, Some(policy), "a你\u{1f600}b".as_bytes());
            assert_eq!(bytes.as_deref(), Ok(expected), "{label} {policy:?}");
        }
    }
    assert_eq!(
        encoded("ascii", Some(Policy::BackslashReplace), "é".as_bytes()).as_deref(),
        Ok(&b"\\xe9"[..])
    );
    // A substitute in the middle of a text does not disturb the state of a charset.
    let japanese = encoded("iso2022_jp", Some(Policy::Replace), "日é日".as_bytes());
    assert_eq!(japanese.as_deref(), Ok(&b"\x1b$BF|\x1b(B?\x1b$BF|\x1b(B"[..]));
    assert_eq!(encoded("iso2022_jp", Some(Policy::Replace), b"a\x1bb\x0e").as_deref(), Ok(&b"a?b?"[..]));
}

#[test]
fn a_character_is_never_sent_as_another() {
    for (label, c) in
        [("shift_jis", "¥"), ("cp932", "‾"), ("euc-jp", "¥"), ("iso2022-jp", "ｱ"), ("windows-1252", "\u{81}")]
    {
        assert!(encoded(label, None, c.as_bytes()).is_err(), "{c} in {label}");
        assert_eq!(
            encoded(label, Some(Policy::Replace), format!("a{c}b").as_bytes()).as_deref(),
            Ok(&b"a?b"[..])
        );
    }
}

#[test]
fn strict_encoding_names_the_character() {
    assert_eq!(
        encoded("latin-1", None, "né 你".as_bytes()).unwrap_err(),
        "character 4, 你 (U+4F60), is not in latin-1; use --errors=replace to substitute"
    );
}

#[test]
fn input_that_is_not_utf_8_is_handled_by_the_policy() {
    let text = b"a\xffb";
    assert_eq!(
        encoded("gbk", None, text).unwrap_err(),
        "\\xff at character 2 is not UTF-8, which --encoding reads"
    );
    assert_eq!(encoded("gbk", Some(Policy::Ignore), text).as_deref(), Ok(&b"ab"[..]));
    assert_eq!(encoded("gbk", Some(Policy::Replace), text).as_deref(), Ok(&b"a?b"[..]));
    assert_eq!(encoded("gbk", Some(Policy::BackslashReplace), text).as_deref(), Ok(&b"a\\xffb"[..]));
    assert_eq!(encoded("utf-16-be", Some(Policy::Replace), text).as_deref(), Ok(&b"\0a\xff\xfd\0b"[..]));
}

#[test]
fn bytes_that_mean_nothing_are_handled_as_python_does() {
    for (label, bytes, escaped, replaced) in [
        ("gbk", &b"a\xffb\x81"[..], "a\\xffb\\x81", "a\u{fffd}b\u{fffd}"),
        ("utf-8", b"a\xe4\xbdb", "a\\xe4\\xbdb", "a\u{fffd}b"),
        ("ascii", b"a\xe9", "a\\xe9", "a\u{fffd}"),
        ("windows-1252", b"a\x81", "a\\x81", "a\u{fffd}"),
        ("utf-16-le", b"a\0\x00\xd8b\0c", "a\\x00\\xd8b\\x63", "a\u{fffd}b\u{fffd}"),
        ("utf-32-be", b"\0\x11\0\0\0\0\0a\0", "\\x00\\x11\\x00\\x00a\\x00", "\u{fffd}a\u{fffd}"),
    ] {
        assert_eq!(decoded(label, None, bytes).as_deref(), Ok(escaped), "{label}");
        assert_eq!(decoded(label, Some(Policy::Replace), bytes).as_deref(), Ok(replaced), "{label}");
    }
    assert_eq!(decoded("gbk", Some(Policy::Ignore), b"a\xffb").as_deref(), Ok("ab"));
    assert_eq!(decoded("gbk", Some(Policy::Strict), b"a\xffb").unwrap_err(), "\\xff at byte 2 is not gbk");
}

#[test]
fn half_a_megabyte_that_a_charset_cannot_express_takes_time_in_proportion() {
    const SIZE: usize = 512 * 1024;
    // Only quadratic work meets the deadline.
    let started = Instant::now();
    for label in ["ascii", "cp1252", "gbk", "shift_jis", "iso2022_jp"] {
        let text = "\u{1f600}".repeat(SIZE / 4);
        let bytes = encoded(label, Some(Policy::Replace), text.as_bytes()).unwrap();
        assert!(bytes == b"?".repeat(SIZE / 4), "{label}");
        assert!(started.elapsed() < DEADLINE, "{label}");
    }
    for (label, unit) in
        [("cp1252", &b"\x81"[..]), ("gbk", b"\xff"), ("utf-8", b"\xff"), ("utf-16-le", b"\0\xdc")]
    {
        let text = decoded(label, Some(Policy::Replace), &unit.repeat(SIZE / unit.len())).unwrap();
        assert!(text == "\u{fffd}".repeat(SIZE / unit.len()), "{label}");
        assert!(started.elapsed() < DEADLINE, "{label}");
    }
}

#[test]
fn each_of_many_substitutes_is_in_its_place() {
    for (label, unit, expected) in [
        ("latin-1", "a\u{1f600}é", &b"a?\xe9"[..]),
        ("gbk", "a\u{1f600}你", b"a?\xc4\xe3"),
        ("shift_jis", "あ\u{a5}\u{1f600}b", b"\x82\xa0??b"),
        ("iso2022_jp", "aｱ\u{1f600}b", b"a??b"),
    ] {
        // More than is encoded at once.
        let text = unit.repeat(1000);
        let bytes = encoded(label, Some(Policy::Replace), text.as_bytes()).unwrap();
        assert!(bytes == expected.repeat(1000), "{label}");
    }
    for (label, unit, expected) in [
        ("cp1252", &b"a\x81\xe9"[..], "a\u{fffd}é"),
        ("gbk", b"\xff\xc4\xe3", "\u{fffd}你"),
        ("utf-8", b"a\xff\xe4\xbd\xa0", "a\u{fffd}你"),
        ("utf-16-le", b"\x00\xd8a\0", "\u{fffd}a"),
    ] {
        let text = decoded(label, Some(Policy::Replace), &unit.repeat(1000)).unwrap();
        assert!(text == expected.repeat(1000), "{label}");
    }
}

#[test]
fn a_line_of_a_megabyte_that_is_all_missing_is_sent() {
    let peer = Peer::new();
    let line = "\u{1f600}".repeat(256 * 1024 - 1);
    let arguments = [&peer.to_string(), "-e", "cp1252", "--errors", "ignore"];
    Tool::new("udp-send").args(arguments).input(format!("{line}\nafter\n")).assert().success();
    assert_eq!([peer.receive(), peer.receive()], [&b""[..], b"after"]);
}

#[test]
fn a_byte_order_mark_changes_no_charset() {
    assert_eq!(decoded("gbk", None, b"\xef\xbb\xbfa").as_deref(), Ok("锘縜"));
    assert_eq!(decoded("utf-16-le", None, b"\xff\xfea\0").as_deref(), Ok("\u{feff}a"));
    assert_eq!(decoded("utf-16", None, b"\xfe\xff\0a").as_deref(), Ok("a"));
    assert_eq!(decoded("utf-16", None, b"a\0").as_deref(), Ok("a"));
}

#[test]
fn an_unknown_charset_is_a_usage_error_that_suggests_near_ones() {
    for (label, words) in [
        ("gkb", "no such charset; did you mean gbk?"),
        ("shift-jsi", "did you mean shift_jis"),
        ("utf-61", "did you mean utf-16"),
        ("windows-1259", "did you mean windows-125"),
        ("klingon", "no such charset; some are utf-8, gbk, "),
        ("", "no such charset; some are utf-8, gbk, "),
        ("hz", "no such charset"),
        ("tis-620", "not supported; use iso8859-11 or windows-874"),
        ("cp950", "not supported; use big5, which differs in some symbols"),
        ("koi8-u", "not supported; use koi8-ru, which differs from it in two letters"),
        ("auto", "only udp-chat guesses charsets; name one, such as gbk"),
        ("auto:big5", "only udp-chat guesses charsets; write big5"),
    ] {
        let stderr = Tool::new("udp-listen").args([":0", "-e", label]).assert().code(2).err();
        assert!(stderr.contains(words) && stderr.contains("--encoding <LABEL>"), "{label}: {stderr}");
    }
}

#[test]
fn a_policy_for_encoding_only_is_refused_where_nothing_is_encoded() {
    let assert =
        Tool::new("udp-listen").args([":0", "-e", "gbk", "--errors", "xmlcharrefreplace"]).assert().code(2);
    let stderr = assert.err();
    assert!(stderr.contains("not one of strict, ignore, replace, backslashreplace\n"), "{stderr}");
}

#[test]
fn a_line_that_cannot_be_encoded_is_trouble_after_the_earlier_ones() {
    let peer = Peer::new();
    let expected = format!(
        "udp-send: cannot send line 2 to {peer}: character 1, 你 (U+4F60), is not in latin-1; \
         use --errors=replace to substitute\n"
    );
    Tool::new("udp-send")
        .args([&peer.to_string(), "-e", "latin-1"])
        .input("é\n你\nnever\n")
        .assert()
        .code(1)
        .stderr(expected);
    Tool::new("udp-send")
        .args([&peer.to_string(), "-e", "latin1", "--errors", "replace"])
        .input("你\n")
        .assert()
        .success();
    assert_eq!(peer.receive(), b"\xe9");
    assert_eq!(peer.receive(), b"?");
}

#[test]
fn a_listener_decodes_and_loses_nothing() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-n", "3", "-e", "gbk"]).spawn_listening();
    let sender = Peer::new();
    for payload in [&b"\xc4\xe3\xba\xc3"[..], b"\xff\x00ok", b""] {
        sender.send_to(payload, address).unwrap();
    }
    assert_eq!(listen.finish().text(), "你好\n\\xff\0ok\n\n");
}

#[test]
fn a_strict_listener_skips_and_reports_an_undecodable_datagram() {
    let (mut listen, address) =
        Tool::new("udp-listen").args([":0", "-n", "3", "-e", "gbk", "--errors", "strict"]).spawn_listening();
    let sender = Peer::new();
    for payload in [&b"a"[..], b"\xff", b"b"] {
        sender.send_to(payload, address).unwrap();
    }
    listen.err_line_with(&format!("ignored a datagram from {sender}: \\xff at byte 1 is not gbk"));
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(1), "a\nb\n"));
}

#[test]
fn a_quiet_listener_skips_an_undecodable_datagram_silently() {
    let finished = Tool::new("udp-listen")
        .args([":0", "-q", "-n", "2", "-e", "gbk", "--errors", "strict", "--", "sh", "-c"])
        .arg(r"printf 'ff\n61\n' | udp-send -f hex $UDP_ADDR")
        .run();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(1), "a\n", ""));
}

#[test]
fn a_request_is_encoded_and_its_reply_decoded() {
    let server = Peer::new();
    let address = server.to_string();
    let answer = std::thread::spawn(move || {
        let (request, peer) = server.receive_from();
        server.send_to(b"\xd4\xd9\xbc\xfb", peer).unwrap();
        request
    });
    Tool::new("udp-recv")
        .args([&address, "-p", "-e", "gbk", "你好"])
        .assert()
        .success()
        .stdout(format!("{address}\t再见\n"));
    assert_eq!(answer.join().unwrap(), b"\xc4\xe3\xba\xc3");
}

/// The charsets that Python and we must agree on in every byte and every character. The others
/// are those of East Asia, where we use the code pages of Windows, and `cp1255`, where Python
/// lacks one point.
const SAME_AS_PYTHON: &str = "ascii latin-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 \
    iso8859-9 iso8859-10 iso8859-11 iso8859-13 iso8859-14 iso8859-15 iso8859-16 cp874 cp1250 cp1251 cp1252 cp1253 \
    cp1254 cp1256 cp1257 cp1258 cp866 koi8-r mac_roman mac_cyrillic utf-8 utf_8_sig utf-16 utf-16-le utf-16-be \
    utf-32 utf-32-le utf-32-be";

/// For each charset: a line of what every character up to U+FFFF is on the wire, and a line of what
/// every two bytes mean.
const PYTHON_TABLES: &str = "
import sys
chars = [chr(c) for c in range(0x10000) if not 0xd800 <= c < 0xe000]
for label in sys.argv[1:]:
    print(' '.join(c.encode(label, 'ignore').hex() for c in chars))
    print(' '.join(bytes([a, b]).decode(label, 'backslashreplace').encode().hex() for a in range(256) for b in range(256)))
";

#[test]
#[ignore = "needs python3"]
fn whole_charsets_are_the_same_as_python_s() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let labels: Vec<&str> = SAME_AS_PYTHON.split_whitespace().collect();
    let python = Tool::other("python3").args(["-c", PYTHON_TABLES]).args(&labels).run();
    assert!(python.status.success(), "{}", python.err);
    let tables = python.text();
    let mut tables = tables.lines();
    for label in labels {
        let [ignoring, showing] = [Some(Policy::Ignore), None].map(|errors| encoding(label, errors));
        let ours: Vec<_> = (0..0x1_0000)
            .filter_map(char::from_u32)
            .map(|c| {
                let mut bytes = Vec::new();
                assert_eq!(ignoring.encode(c.to_string().as_bytes(), &mut bytes), Ok(()));
                hex(&bytes)
            })
            .collect();
        // Not assert_eq: it would print both tables.
        let theirs: Vec<&str> = tables.next().unwrap().split(' ').collect();
        assert!(ours == theirs, "the characters of {label}");
        let ours: Vec<_> = (0..=u16::MAX)
            .map(|bytes| {
                let mut text = Vec::new();
                let usual = Policy::BackslashReplace;
                assert_eq!(showing.decode(&bytes.to_be_bytes(), usual, &mut text), Ok(()));
                hex(&text)
            })
            .collect();
        let theirs: Vec<&str> = tables.next().unwrap().split(' ').collect();
        assert!(ours == theirs, "the bytes of {label}");
    }
}

#[test]
#[ignore = "needs python3"]
fn samples_are_the_same_in_python() {
    for (text, label, bytes) in SAMPLES {
        let script = "import sys; sys.stdout.buffer.write(sys.argv[1].encode(sys.argv[2]))";
        let python = Tool::other("python3").args(["-c", script, text, label]).run();
        assert_eq!(&python.out, bytes, "{text} in {label}");
    }
}
