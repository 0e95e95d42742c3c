//! What a relay records and counts: every datagram of both directions, whatever happened to it.

use std::io::{Read, pipe};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Cable, Directory, Finished, Peer, Running, Tool, free_port, unused_address};

/// Starts a relay to `server` on a free port. Returns the address to reach it.
fn relay(server: &str, options: &[&str]) -> (Running, SocketAddr) {
    Tool::new("udp-relay").args(["127.0.0.1:0", server]).args(options).spawn_listening()
}

/// Ends a relay, and returns its last report.
fn report(relay: Running) -> Value {
    last_report(&relay.ended_by(Signal::SIGTERM))
}

fn last_report(finished: &Finished) -> Value {
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32), "{}", finished.err);
    let object = finished.err.lines().rfind(|line| line.starts_with('{'));
    serde_json::from_str(object.unwrap_or_else(|| panic!("no report: {}", finished.err))).unwrap()
}

/// Sends `payload` from `client` through the relay at `address` to a server that sends it back.
fn ask(client: &Peer, address: SocketAddr, payload: &[u8]) {
    client.send_to(payload, address).unwrap();
    assert_eq!(client.receive_from(), (payload.to_vec(), address));
}

/// Panics unless every received datagram of both directions is in one other counter of the `report`.
fn assert_closed(report: &Value) {
    for direction in ["up", "down"] {
        let Value::Object(sent) = &report[direction]["sent"] else { panic!("no {direction}: {report}") };
        let number = |name: &str| sent[name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
        let not_sent = ["unsent", "mirrored", "no_session", "over_rate", "lost", "over_limit", "waiting"];
        let copies = number("datagrams") + not_sent.iter().map(|name| number(name)).sum::<u64>();
        assert_eq!(report[direction]["received"]["datagrams"], copies - number("duplicated"), "{report}");
    }
}

#[test]
fn a_record_has_the_direction_the_session_and_the_fate_of_a_datagram() {
    let server = Peer::echoing();
    let (mut relay, address) = relay(&server, &["-f", "json"]);
    let clients = [Peer::new(), Peer::new()];
    for (client, session) in clients.iter().zip(1..) {
        for payload in ["one", "two"] {
            ask(client, address, payload.as_bytes());
            let client = client.to_string();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let mut record: Value = serde_json::from_str(&relay.line()).unwrap();
                let time = record.as_object_mut().unwrap().remove("time");
                assert!(time.is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
                let expected = json!({
                    "from": from, "to": to, "session": session, "fate": "sent", "size": 3, "text": payload
                });
                assert_eq!(record, expected);
            }
        }
    }
    assert_eq!(relay.ended_by(Signal::SIGTERM).text(), "");
}

#[test]
fn the_host_that_answers_a_group_is_the_source_of_its_replies() {
    let member = Peer::bind("0.0.0.0:0");
    member.join_multicast_v4(&[239, 7, 8, 9].into(), &[127, 0, 0, 1].into()).unwrap();
    let group = format!("239.7.8.9%lo:{}", member.port());
    let (mut relay, address) = relay(&group, &["-f", "json"]);
    let client = Peer::new();
    client.send_to(b"who?", address).unwrap();
    let (question, asker) = member.receive_from();
    assert_eq!(question, b"who?");
    let other = Peer::bind("127.0.0.2:0");
    other.send_to(b"me", asker).unwrap();
    member.send_to(b"me", asker).unwrap();
    assert_eq!((client.receive_from(), client.receive()), ((b"me".to_vec(), address), b"me".to_vec()));
    let mut addresses = || {
        let record: Value = serde_json::from_str(&relay.line()).unwrap();
        ["from", "to"].map(|key| record[key].as_str().unwrap().to_owned())
    };
    let client = client.to_string();
    assert_eq!(addresses(), [client.clone(), format!("239.7.8.9:{}", member.port())]);
    assert_eq!(addresses(), [other.to_string(), client.clone()]);
    // The system chooses the address of this machine that the relay has asked from.
    assert_eq!(addresses(), [format!("{}:{}", asker.ip(), member.port()), client]);
}

#[test]
fn a_capture_has_the_packets_of_both_directions() {
    let server = Peer::echoing();
    let (relay, address) = relay(&server, &["-f", "pcap"]);
    let client = Peer::new();
    ask(&client, address, b"one");
    ask(&client, address, b"two");
    let capture = relay.ended_by(Signal::SIGTERM).out;
    let port = |text: &str| text.rsplit(':').next().unwrap().parse::<u16>().unwrap().to_be_bytes();
    let (up, down) = (port(&client.to_string()), port(&server));
    // The header of a file has 24 bytes, that of a packet 16, and 20 of IP and 8 of UDP follow.
    let ports: Vec<_> = capture[24..].chunks(16 + 20 + 8 + 3).map(|packet| &packet[36..40]).collect();
    let [there, back] = [[up, down].concat(), [down, up].concat()];
    assert_eq!(ports, [&there, &back, &there, &back]);
}

#[test]
fn a_slow_reader_loses_records_and_holds_up_nothing() {
    let server = Peer::echoing();
    let (mut reader, writer) = pipe().unwrap();
    let relay = Tool::new("udp-relay").args(["127.0.0.1:0", &server, "-f", "json", "--stats=json"]);
    let (mut relay, address) = relay.args(["--queue", "1"]).stdout(writer).spawn_listening();
    let client = Peer::new();
    // A pipe holds 64 KiB, and what is being printed is a batch at most.
    for number in 0..2000_u32 {
        ask(&client, address, &[&number.to_ne_bytes()[..], &[b'x'; 1000]].concat());
    }
    relay.err_line_with("stdout is slow");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let finished = relay.ended_by(Signal::SIGTERM);
    let report = last_report(&finished);
    let records = reading.join().unwrap().unwrap().lines().count() as u64;
    let lost = report["unrecorded"].as_u64().unwrap();
    assert!(lost > 0 && finished.err.contains(&format!("{lost} datagrams were not recorded")));
    assert_eq!((records + lost, &report["down"]["sent"]["datagrams"]), (4000, &json!(2000)));
    assert_closed(&report);
}

#[test]
fn what_is_denied_is_not_received_and_has_no_session() {
    let server = Peer::echoing();
    let (relay, address) = relay(&server, &["--stats=json", "--deny", "127.0.0.2", "-f", "json"]);
    let denied = Peer::bind("127.0.0.2:0");
    for _ in 0..3 {
        denied.send_to(b"no", address).unwrap();
    }
    ask(&Peer::new(), address, b"yes");
    let finished = relay.ended_by(Signal::SIGTERM);
    let report = last_report(&finished);
    assert_eq!(finished.text().lines().count(), 2);
    assert_eq!((&report["up"]["received"]["denied"], &report["sessions"]["opened"]), (&json!(3), &json!(1)));
    assert_eq!(report["up"]["received"]["datagrams"], 1);
    assert_closed(&report);
}

#[test]
fn a_report_has_the_copies_for_mirrors_before_there_is_any() {
    let (relay, _) = relay(&Peer::new().to_string(), &["--mirror", "127.0.0.1:9", "--stats=json"]);
    let report = report(relay);
    assert_eq!((&report["mirrored"]["datagrams"], &report["mirrored"]["unsent"]), (&json!(0), &json!(0)));
}

#[test]
fn what_goes_to_mirrors_alone_or_has_no_session_is_counted_and_recorded_as_such() {
    let (mirror, directory) = (Peer::new(), Directory::new("relay-no-session"));
    let path = directory.file("server");
    let mirrored = vec!["--mirror".to_owned(), mirror.to_string()];
    let unreachable = vec![format!("unix:{}", path.display())];
    for (arguments, fate) in [(mirrored, "mirrored"), (unreachable, "no_session")] {
        let relay = Tool::new("udp-relay").arg("127.0.0.1:0").args(arguments);
        let (mut relay, address) = relay.args(["--stats=json", "-f", "json"]).spawn_listening();
        // A server that is started later, and not at a datagram socket.
        let _server = (fate == "no_session").then(|| UnixListener::bind(&path).unwrap());
        let client = Peer::new();
        client.send_to(b"one", address).unwrap();
        client.send_to(b"two", address).unwrap();
        for _ in 0..2 {
            let record: Value = serde_json::from_str(&relay.line()).unwrap();
            let [from, to] = [client.to_string(), address.to_string()].map(Value::from);
            assert_eq!([&record["from"], &record["to"]], [&from, &to]);
            assert_eq!((&record["session"], &record["fate"]), (&json!(0), &json!(fate)));
        }
        let report = report(relay);
        assert_eq!((&report["up"]["sent"][fate], &report["sessions"]["opened"]), (&json!(2), &json!(0)));
        assert_closed(&report);
    }
    assert_eq!([mirror.receive(), mirror.receive()], [b"one", b"two"]);
}

#[test]
fn a_refusal_is_counted_beside_what_was_sent() {
    let (mut relay, address) = relay(&unused_address(), &["--stats=json"]);
    let client = Peer::new();
    client.send_to(b"one", address).unwrap();
    relay.err_line_with("port unreachable");
    let report = report(relay);
    let sent = &report["up"]["sent"];
    assert_eq!((&sent["datagrams"], &sent["refused"]), (&json!(1), &json!(1)), "{report}");
    assert_closed(&report);
}

#[test]
fn what_exceeds_the_rate_of_a_session_is_counted_and_recorded_as_such() {
    let server = Peer::new();
    let options = ["--stats=json", "--rate", "1/min", "-f", "json"];
    let (mut relay, address) = relay(&server.to_string(), &options);
    let client = Peer::new();
    for _ in 0..10 {
        client.send_to(b"x", address).unwrap();
    }
    let fates: Vec<_> = (0..10)
        .map(|_| serde_json::from_str::<Value>(&relay.line()).unwrap()["fate"].as_str().unwrap().to_owned())
        .collect();
    let report = report(relay);
    let sent = fates.iter().filter(|fate| *fate == "sent").count();
    assert!(sent > 0 && fates.iter().all(|fate| fate == "sent" || fate == "over_rate"), "{fates:?}");
    assert_eq!(
        (&report["up"]["sent"]["datagrams"], &report["up"]["sent"]["over_rate"]),
        (&json!(sent), &json!(10 - sent))
    );
    assert_closed(&report);
}

#[test]
fn what_is_impaired_is_counted_and_recorded_as_such() {
    let server = Peer::echoing();
    let words = "loss 20% delay 1ms duplicate 20% reorder 20% corrupt 10% limit 5 seed 7";
    let (relay, address) = relay(&server, &["--stats=json", "--impair", words, "-f", "json"]);
    let client = Peer::new();
    for _ in 0..500 {
        client.send_to(b"x", address).unwrap();
    }
    // Not all of the 500 are lost.
    client.receive();
    let finished = relay.ended_by(Signal::SIGTERM);
    let report = last_report(&finished);
    assert_closed(&report);
    let records: Vec<Value> =
        finished.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (direction, to) in [("up", Some(&server)), ("down", None)] {
        let of = |fate: &str| {
            let is_of =
                |record: &&Value| (record["to"] == server.as_str()) == to.is_some() && record["fate"] == fate;
            records.iter().filter(is_of).count()
        };
        for fate in ["lost", "over_limit", "delayed", "reordered", "corrupted"] {
            assert_eq!(report[direction]["sent"][fate], of(fate), "{direction} {fate}: {report}");
        }
    }
}

#[test]
fn what_is_impaired_and_cannot_be_sent_is_counted_and_recorded_as_unsent() {
    let server = Peer::new();
    let impair = ["--impair", "up corrupt 100%"];
    let relay = Tool::new("udp-relay").args(["[::1]:0", &server.to_string()]).args(impair);
    let (mut relay, address) = relay.args(["--stats=json", "-f", "json"]).spawn_listening();
    let client = Peer::v6();
    // Over IPv4 a datagram has at most 65,507 bytes.
    for (size, fate) in [(65_508, "unsent"), (65_507, "corrupted")] {
        client.send_to(&vec![0; size], address).unwrap();
        let record: Value = serde_json::from_str(&relay.line()).unwrap();
        assert_eq!((&record["size"], &record["fate"]), (&json!(size), &json!(fate)));
    }
    let report = report(relay);
    let sent = &report["up"]["sent"];
    assert_eq!(
        ["unsent", "corrupted", "datagrams"].map(|name| &sent[name]),
        [1, 1, 1].map(|n| json!(n)).each_ref()
    );
    assert_closed(&report);
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_client_over_ipv6_that_claims_an_ipv4_address_is_counted_as_forged() {
    let cable = Cable::new("relay-forged");
    let server = cable.far.tool("udp-listen").args(["127.0.0.1:5000", "-n", "1"]);
    let mut server = server.spawn();
    server.listening_on();
    let mut relay = cable.far.tool("udp-relay").args([":7788", "127.0.0.1:5000", "--stats=json"]).spawn();
    relay.listening_on();
    cable.forge("udp", &["::ffff:192.0.2.1", "fe80::2", "9999", "7788", "forged"]);
    cable.near.tool("udp-send").args(["192.0.2.2:7788", "genuine"]).assert().code(0);
    assert_eq!(server.ended().text(), "genuine\n");
    let finished = relay.ended_by(Signal::SIGTERM);
    let expected = "ignored 1 forged datagram: an IPv4 source address in an IPv6 packet\n";
    assert!(finished.err.contains(expected), "{}", finished.err);
    let received = &last_report(&finished)["up"]["received"];
    assert_eq!((&received["forged"], &received["datagrams"]), (&json!(1), &json!(1)));
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_client_that_claims_to_be_the_relay_itself_has_no_session() {
    let cable = Cable::new("relay-loop");
    let mut server = cable.far.tool("udp-listen").args(["127.0.0.1:5000", "--echo"]).spawn();
    server.listening_on();
    let mut relay = cable.far.tool("udp-relay").args([":7788", "127.0.0.1:5000", "--stats=json"]).spawn();
    relay.listening_on();
    cable.forge("udp", &["fe80::2", "fe80::2", "7788", "7788", "forged"]);
    let line = relay.err_line_with("cannot forward what [fe80::2%cable0]:7788 sends");
    assert!(line.ends_with(": the relay itself receives what is sent there"), "{line}");
    cable.near.tool("udp-recv").args(["192.0.2.2:7788", "genuine"]).assert().success().stdout("genuine\n");
    let report = report(relay);
    let (up, sessions) = (&report["up"], &report["sessions"]);
    assert_eq!((&up["received"]["datagrams"], &up["sent"]["no_session"]), (&json!(2), &json!(1)), "{report}");
    assert_eq!(sessions["opened"], 1, "{report}");
    assert_closed(&report);
}

#[test]
fn what_is_sent_to_a_group_that_another_program_has_joined_does_not_arrive_at_the_relay() {
    let member = Peer::bind("0.0.0.0:0");
    member.join_multicast_v4(&[239, 7, 8, 10].into(), &[127, 0, 0, 1].into()).unwrap();
    let port = free_port();
    let (here, group) = (format!("0.0.0.0:{port}"), format!("239.7.8.10%lo:{port}"));
    let relay = Tool::new("udp-relay").args([&here, &group, "--stats=json"]);
    let (relay, address) = relay.spawn_listening();
    Peer::new().send_to(b"once", address).unwrap();
    let report = report(relay);
    assert_eq!(
        (&report["up"]["received"]["datagrams"], &report["sessions"]["opened"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn the_numbers_of_periods_add_up_to_the_total() {
    let server = Peer::echoing();
    let (mut relay, address) = relay(&server, &["--stats=json", "--stats-interval", "50ms"]);
    let client = Peer::new();
    for _ in 0..3 {
        ask(&client, address, b"x");
        relay.err_line_with("\"kind\":\"interval\"");
    }
    let finished = relay.ended_by(Signal::SIGTERM);
    let total = last_report(&finished);
    assert_eq!(total["kind"], "total");
    assert_eq!((&total["up"]["sent"]["datagrams"], &total["sessions"]["open"]), (&json!(3), &json!(1)));
}

#[test]
#[ignore = "needs root and tshark"]
fn both_directions_are_what_tshark_captures_of_the_same_traffic() {
    let server = Peer::echoing();
    let port = server.rsplit(':').next().unwrap();
    let (relay, address) = relay(&server, &["-f", "pcap"]);
    let filter = format!("udp port {port} or udp port {}", address.port());
    let fields = ["udp.srcport", "udp.dstport", "udp.payload"];
    let fields: Vec<_> = fields.iter().flat_map(|field| ["-e", field]).collect();
    let options = ["-l", "-n", "-i", "lo", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-f"];
    let tshark = Tool::other("tshark").args(options).arg(&filter);
    let mut tshark = tshark.args(["-d", "udp.port==1-65535,data"]).args(&fields).spawn();
    tshark.err_line_with("Capture started");
    let clients = [Peer::new(), Peer::new()];
    let mut asked = 0;
    for number in 0..20_u32 {
        for client in &clients {
            ask(client, address, &[&number.to_ne_bytes()[..], &client.port().to_ne_bytes()].concat());
            asked += 1;
        }
    }
    // Each datagram is seen on both sides of the relay: from the client and to it, and from and to the server.
    let seen: Vec<String> = (0..4 * asked).map(|_| tshark.line()).collect();
    let capture = relay.ended_by(Signal::SIGTERM).out;
    let listed =
        Tool::other("tshark").args(["-n", "-r", "-", "-d", "udp.port==1-65535,data", "-T", "fields"]);
    let listed = crate::harness::Printed::out(&listed.args(&fields).input(capture).assert().success());
    let rows: Vec<[&str; 3]> = listed.lines().map(row).collect();
    assert_eq!(rows.len(), 2 * asked);
    let relay_port = address.port().to_string();
    // On the side of the clients, the relay has the place of the server in the record.
    let of_clients: Vec<[&str; 3]> = seen
        .iter()
        .map(|line| row(line))
        .filter(|[from, to, _]| [from, to].contains(&&relay_port.as_str()))
        .map(|row| row.map(|field| if field == relay_port { port } else { field }))
        .collect();
    assert_eq!(rows, of_clients);
}

/// Returns the ports and the payload of a line of tshark.
fn row(line: &str) -> [&str; 3] {
    line.split('\t').collect::<Vec<_>>().try_into().unwrap()
}
