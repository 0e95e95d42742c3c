//! The tools as pipes of each other: what goes in comes out.

use std::process::Command;

use crate::common::{Running, path, path_with_tools, tool};

/// What `udp-listen` prints of all that `udp-send` makes of `input`.
fn through(input: &[u8], count: usize) -> Vec<u8> {
    let (listen, address) = Running::listening("udp-listen", &[":0", "-n", &count.to_string(), "-w", "20s"]);
    tool("udp-send").arg(address.to_string()).write_stdin(input).assert().success();
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
    let (last, address) = Running::listening("udp-listen", &[":0", "-n", "2"]);
    let mut relay = Running::spawn(
        Command::new("sh")
            .args(["-c", &format!("udp-listen 127.0.0.1:0 | grep --line-buffered x | udp-send {address}")])
            .env("PATH", path_with_tools()),
    );
    let first = relay.await_listening().to_string();
    tool("udp-send").arg(first).write_stdin("ax\nb\ncx\n").assert().success();
    assert_eq!(last.finish().text(), "ax\ncx\n");
}

#[test]
fn two_tools_ask_and_answer_over_ipv6() {
    let (listen, address) = Running::listening("udp-listen", &["[::1]:0", "-n", "1"]);
    let mut send = Command::new(path("udp-send"));
    let finished = Running::spawn(send.arg(address.to_string()).arg("hi")).finish();
    assert_eq!(finished.code(), Some(0));
    assert_eq!(listen.finish().text(), "hi\n");
}
