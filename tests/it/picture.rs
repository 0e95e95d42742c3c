//! The picture in the README: a screen of a real chat between hosts. `UPDATE_PICTURES=1` writes it anew.

mod svg;

use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Cable, Display, bash, ip};

/// Compares `svg` with the picture called `name`, or replaces that if it is asked to.
fn check(name: &str, svg: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        return std::fs::write(&path, svg).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
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
fn the_picture_in_the_readme_is_of_a_real_chat() {
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
    check("chat.svg", &alice.see(|screen| svg::picture(screen, "udp-chat")));
}
