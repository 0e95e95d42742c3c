//! The pictures of the documentation: screens of real sessions. `UPDATE_PICTURES=1` writes them anew.

mod svg;

use std::iter;
use std::path::Path;

use nix::sys::signal::Signal;
use regex::Regex;
use vt100::Screen;

use crate::harness::{Cable, Display, bash, ip};

/// Returns the picture called `name`, which is replaced by `svg` first if it is asked to.
fn committed(name: &str, svg: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        std::fs::write(&path, svg).unwrap();
    }
    std::fs::read_to_string(&path).unwrap()
}

/// Compares `svg` with the picture called `name`.
fn check(name: &str, svg: &str) {
    let committed = committed(name, svg);
    assert!(committed == svg, "docs/{name} is out of date: run this test with UPDATE_PICTURES=1\n{svg}");
}

/// Returns two hosts: Alice's, and that of Bob and of a device that speaks GBK.
fn hosts() -> Cable {
    let cable = Cable::new("picture");
    for (host, addresses) in [(&cable.near, &["192.0.2.5"][..]), (&cable.far, &["192.0.2.7", "192.0.2.9"])] {
        ip(&format!("-n {host} address flush dev cable0"));
        for address in addresses {
            ip(&format!("-n {host} address add {address}/24 dev cable0"));
        }
    }
    cable.await_carrier("cable0");
    cable
}

#[test]
#[ignore = "needs root and ip of iproute2"]
fn the_picture_of_a_chat_is_of_a_real_chat() {
    let cable = hosts();
    let mut alice = Display::new(15, 76);
    alice.start(cable.near.host(bash()));
    alice.await_edited("$ ▏");
    alice.type_keys("udp-chat -e auto 192.0.2.7:7890\r");
    alice.await_edited("to 192.0.2.7:7890> ▏");

    let mut bob = Display::new(24, 80);
    bob.start(cable.far.tool("udp-chat").args(["--bind", "192.0.2.7:7890", "192.0.2.5:7890"]));
    bob.await_edited("to 192.0.2.5:7890> ▏");
    alice.type_keys("/name 1 bob\r");
    alice.await_edited("to bob> ▏");
    alice.type_keys("hi, is the sensor back?\r");
    bob.await_row("is the sensor back?");
    bob.type_keys("yes, but it speaks only GBK\r");
    alice.await_row("bob: yes");

    let device = cable.far.tool("udp-chat").args(["--bind", "192.0.2.9:7788", "-e", "gbk", "192.0.2.5:7890"]);
    let mut device = device.spawn();
    device.listening_on();
    device.type_line("传感器已恢复，温度 21.5 °C");
    alice.await_row("传感器已恢复，温度 21.5 °C");
    alice.type_keys("/name 2 sensor\r");
    alice.await_edited("to bob (/to 2 answers sensor)> ▏");
    alice.type_keys("@sensor 你好，湿度？\r");
    assert!(device.line().ends_with("\t你好，湿度？"));
    device.type_line("湿度 48 %");
    alice.await_row("湿度 48 %");
    assert!(device.ended_by(Signal::SIGTERM).signal().is_some());
    alice.type_keys("@sensor 谢谢\r");
    alice.await_row("port unreachable");
    alice.type_keys("gone again, at 21.5 °C");
    alice.await_edited("to bob> gone again, at 21.5 °C▏");
    check("chat.svg", &alice.see(|screen| svg::picture(&[(screen, "udp-chat")])));
}

#[test]
#[ignore = "needs root and ip of iproute2"]
fn the_picture_in_the_readme_is_of_a_real_listener_and_a_real_sender() {
    let cable = hosts();
    let [mut listener, mut sender] = [Display::new(7, 42), Display::new(7, 42)];
    for display in [&mut listener, &mut sender] {
        display.start(cable.near.host(bash()));
        display.await_edited("$ ▏");
    }
    listener.type_keys("udp-listen :7788\r");
    listener.await_row("listening on [::]:7788");
    sender.type_keys("echo hi | udp-send 127.0.0.1:7788\r");
    listener.await_row("hi");
    // The prompt is the one behind the command.
    sender.await_row("echo hi");
    sender.await_edited("$ ▏");
    sender.type_keys("seq 3 | udp-send 127.0.0.1:7788\r");
    listener.await_row("3");
    sender.await_row("seq 3");
    sender.await_edited("$ ▏");
    let windows = |left: &Screen, right: &Screen| svg::picture(&[(left, "one terminal"), (right, "another")]);
    check("listen-and-send.svg", &listener.see(|left| sender.see(|right| windows(left, right))));
}

/// No two runs have the same figures: all else is compared.
#[test]
#[ignore = "needs root and ip of iproute2"]
fn the_picture_of_latencies_is_of_a_real_measurement() {
    let cable = hosts();
    let _echo = cable.near.tool("udp-listen").args([":7788", "--echo"]).spawn_listening();
    let columns = 104;
    let mut display = Display::new(20, columns);
    display.start(cable.near.host(bash()));
    display.await_edited("$ ▏");
    display.type_keys("udp-recv 127.0.0.1:7788 --rate 1k/s --repeat 2000 --stats ping > /dev/null\r");
    display.await_row("round trip");
    display.await_edited("$ ▏");
    let made = display.see(|screen| svg::picture(&[(screen, "udp-recv")]));
    let committed = committed("latency.svg", &made);
    let [window, committed_window] = [&made, &committed].map(|svg| svg.split_once("</text>").unwrap().0);
    assert_eq!(window, committed_window);
    let ((_, made_styles), (committed_rows, committed_styles)) = (svg::read(&made), svg::read(&committed));
    assert_eq!(made_styles, committed_styles);
    // On a busy machine the histograms are longer, so that the beginning leaves the screen, and rows are wrapped.
    let mut rows: Vec<String> = Vec::new();
    for row in display.all_rows() {
        let is_first = row.starts_with("udp-recv: ") || row.starts_with('$');
        match rows.last_mut().filter(|_| !is_first) {
            Some(wrapped) => *wrapped = format!("{wrapped:0$}{row}", columns.into()),
            None => rows.push(row),
        }
    }
    assert_eq!(shape(&rows), shape(&committed_rows), "{rows:#?}");
    let bars = rows.iter().filter_map(|row| row.strip_prefix("udp-recv: below "));
    let counted: u64 = bars.map(|bar| bar.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(counted, 2 * 2000, "{rows:#?}");
}

/// Returns `rows` with an N for each figure, and one row for all rows of a histogram. The first row is the command.
fn shape(rows: &[String]) -> Vec<String> {
    let bar = Regex::new(r"^udp-recv: below [ \d]{4}\.\d{3} ms [# ]{40} \d+$").unwrap();
    let figure = Regex::new(r"\b\d[\d.]*(k?/s)?").unwrap();
    // A busy machine sends some requests late.
    let late = Regex::new(r": sent late \d+$").unwrap();
    let shape = |row: &String| {
        let row = bar.replace(row, "udp-recv: below N ms # N");
        figure.replace_all(&late.replace(&row, ""), "N").trim_end().to_owned()
    };
    let mut shape: Vec<_> = iter::once(rows[0].clone()).chain(rows[1..].iter().map(shape)).collect();
    shape.dedup();
    shape
}
