//! The tools in pipes: what is sent is printed unchanged.

use crate::harness::Tool;

/// Returns what `udp-listen` prints of all that `udp-send` makes of `input`.
fn through(input: &[u8], count: usize) -> Vec<u8> {
    let (listen, address) =
        Tool::new("udp-listen").args([":0", "-n", &count.to_string(), "-w", "20s"]).spawn_listening();
    Tool::new("udp-send").arg(address).input(input).assert().success();
    let finished = listen.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    finished.out
}

#[test]
fn all_byte_values_but_the_newline_pass_unchanged() {
    let values: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let line = [&values[..], b"\n"].concat();
    assert_eq!(through(&line, 1), line);
}

#[test]
fn the_newline_passes_as_the_end_of_a_line() {
    let values: Vec<u8> = (0..=255).collect();
    assert_eq!(through(&values, 2), [&values[..], b"\n"].concat());
}

#[test]
fn all_sizes_pass_unchanged() {
    for size in [0, 1, 1024, 1472, 65_507] {
        let mut line: Vec<u8> = (0..size).map(|i| b' ' + u8::try_from(i % 90).unwrap()).collect();
        line.push(b'\n');
        assert_eq!(through(&line, 1), line, "{size}");
    }
}

#[test]
fn a_listener_feeds_a_sender() {
    let (last, address) = Tool::new("udp-listen").args([":0", "-n", "2"]).spawn_listening();
    let mut relay =
        Tool::shell(&format!("udp-listen 127.0.0.1:0 | grep --line-buffered x | udp-send {address}")).spawn();
    let first = relay.listening_on().to_string();
    Tool::new("udp-send").arg(&first).input("ax\nb\ncx\n").assert().success();
    assert_eq!(last.finish().text(), "ax\ncx\n");
}

#[test]
fn two_tools_ask_and_answer_over_ipv6() {
    let (listen, address) = Tool::new("udp-listen").args(["[::1]:0", "-n", "1"]).spawn_listening();
    let finished = Tool::new("udp-send").arg(address).arg("hi").run();
    assert_eq!(finished.code(), Some(0));
    assert_eq!(listen.finish().text(), "hi\n");
}
