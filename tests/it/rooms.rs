//! Rooms of `udp-chat`: a multicast group or a broadcast address in which chats talk without a server, and the names of
//! those who send there.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::{Cable, DEADLINE, Namespace, Peer, Running, Tool, complaint, counter, free_port, ip};

/// Rooms of a network: of IPv4, of IPv6 on a link and beyond, and of a broadcast address.
const ROOMS: [&[&str]; 5] = [
    &["239.7.8.9%lan0:7890"],
    &["-4", "239.7.8.9%lan0:7890"],
    &["[ff12::7:8%lan0]:7890"],
    &["[ff15::7:8%lan0]:7890"],
    &["--broadcast", "192.0.2.255:7890"],
];

/// A chat in a room, and its own port.
struct Member {
    chat: Running,
    port: u16,
}

impl Member {
    /// Starts a chat, and waits until it has opened its sockets.
    fn start(chat: Tool, arguments: &[&str]) -> Self {
        let (chat, address) = chat.args(arguments).spawn_listening();
        Self { chat, port: address.port() }
    }

    /// Returns the next datagram: its source and its text.
    fn next(&mut self) -> (String, String) {
        let line = self.chat.line();
        let (source, text) = line.split_once('\t').unwrap();
        (source.to_owned(), text.to_owned())
    }

    /// Returns the text of the next datagram.
    fn text(&mut self) -> String {
        self.next().1
    }
}

/// Has `members` talk in their room. Each receives what the others send there once, and nothing of its own; what is sent
/// to one alone reaches that one.
fn talk(mut members: Vec<Member>) {
    let count = members.len();
    for (number, member) in members.iter_mut().enumerate() {
        member.chat.type_line(&format!("hello from {number}"));
    }
    let ports: Vec<_> = members.iter().map(|member| member.port).collect();
    let mut first = String::new();
    for (number, member) in members.iter_mut().enumerate() {
        let received: Vec<_> = (1..count).map(|_| member.next()).collect();
        let known: BTreeSet<_> = received.iter().map(|(source, text)| (port_of(source), &text[..])).collect();
        let texts: Vec<_> = (0..count).map(|other| format!("hello from {other}")).collect();
        let others = (0..count).filter(|other| *other != number);
        assert_eq!(known, others.map(|other| (ports[other], &texts[other][..])).collect(), "{number}");
        first = received.into_iter().find(|(source, _)| port_of(source) == ports[0]).unwrap_or_default().0;
    }
    members[1].chat.type_line(&format!("@{first} psst"));
    assert_eq!(members[0].text(), "psst");
    // Anything else that they have received is before what is sent last.
    let (last, others) = members.split_last_mut().unwrap();
    last.chat.type_line("the end");
    for member in &mut *others {
        assert_eq!(member.text(), "the end");
    }
    others[0].chat.type_line("goodbye");
    for member in members.iter_mut().skip(1) {
        assert_eq!(member.text(), "goodbye");
    }
    for (number, member) in members.into_iter().enumerate() {
        let finished = member.chat.ended_by(Signal::SIGTERM);
        assert_eq!((finished.text(), finished.signal()), ("", Some(Signal::SIGTERM as i32)));
        // One has sent a goodbye, and has received what was for it alone; the last has not received its own line.
        let received = count + usize::from(number + 1 != count);
        assert!(finished.err.contains(&format!("received {received} (")), "{number}: {}", finished.err);
    }
}

fn port_of(source: &str) -> u16 {
    source.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Starts as many chats as there are `hosts`, in one room.
fn members<'h>(hosts: impl IntoIterator<Item = &'h Namespace>, arguments: &[&str]) -> Vec<Member> {
    let start = |host: &Namespace| Member::start(host.tool("udp-chat"), &[arguments, &["--stats"]].concat());
    hosts.into_iter().map(start).collect()
}

#[test]
fn ten_chats_on_one_host_are_in_one_room() {
    for room in [&["239.7.8.9%lo"][..], &["--broadcast", "127.255.255.255"]] {
        let place = format!("{}:{}", room.last().unwrap(), free_port());
        let arguments = [&room[..room.len() - 1], &[&place, "--stats"]].concat();
        talk((0..10).map(|_| Member::start(Tool::new("udp-chat"), &arguments)).collect());
    }
}

#[test]
#[ignore = "needs root and ip"]
fn ten_chats_in_one_network_namespace_are_in_one_room() {
    let cable = Cable::new("ten");
    cable.await_carrier("cable0");
    for room in ROOMS {
        let room: Vec<_> = room.iter().map(|word| word.replace("lan0", "cable0")).collect();
        let room: Vec<_> = room.iter().map(String::as_str).collect();
        talk(members([&cable.near; 10], &room));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn three_hosts_are_in_one_room() {
    let lan = Lan::new("three");
    for room in ROOMS.into_iter().chain([&["--broadcast", "-I", "lan0", "255.255.255.255:7890"][..]]) {
        talk(members(&lan.hosts, room));
    }
    // Two of one host as well.
    talk(members(lan.hosts.iter().chain(&lan.hosts), ROOMS[0]));
}

#[test]
fn a_room_that_is_named_twice_is_received_once() {
    let room = format!("239.7.8.9%lo:{}", free_port());
    let mut chat = Member::start(Tool::new("udp-chat"), &[&room, &room]);
    Tool::new("udp-send").args([&room, "one", "two"]).assert().success();
    assert_eq!([chat.text(), chat.text()], ["one", "two"]);
}

#[test]
fn a_chat_that_is_bound_to_the_port_of_its_room_receives_what_is_for_the_room_and_for_itself() {
    let group = &["239.7.8.9%lo"][..];
    let broadcast = &["--broadcast", "127.255.255.255"][..];
    for (room, bind, option) in [
        (group, "", Some("--reuse-address")),
        (group, "127.0.0.1", None),
        (broadcast, "", Some("--reuse-address")),
        (broadcast, "127.0.0.1", None),
    ] {
        let port = free_port();
        let (place, bind) = (format!("{}:{port}", room.last().unwrap()), format!("{bind}:{port}"));
        let arguments = [&room[..room.len() - 1], &[&place]].concat();
        let bound: Vec<_> = arguments.iter().copied().chain(["--bind", &bind]).chain(option).collect();
        let [mut one, mut two] =
            [&bound, &arguments].map(|arguments| Member::start(Tool::new("udp-chat"), arguments));
        assert_eq!(one.port, port, "{bound:?}");
        one.chat.type_line("to all");
        let (source, text) = two.next();
        assert_eq!((port_of(&source), &text[..]), (port, "to all"), "{bound:?}");
        if (room, option) != (broadcast, Some("--reuse-address")) {
            // What it sends to itself alone is not left out. Where both have bound the wildcard, the other receives it.
            one.chat.type_line(&format!("@127.0.0.1:{port} to me"));
            assert_eq!(one.text(), "to me", "{bound:?}");
        }
        two.chat.type_line("to the other");
        let (source, text) = one.next();
        assert_eq!((port_of(&source), &text[..]), (two.port, "to the other"), "{bound:?}");
    }
}

#[test]
fn the_room_of_a_group_is_left_alone_by_what_is_sent_to_the_host() {
    let port = free_port();
    let room = format!("239.7.8.9%lo:{port}");
    let mut chat = Member::start(Tool::new("udp-chat"), &[&room]);
    let server = Peer::bind(&format!("127.0.0.1:{port}"));
    chat.chat.type_line(&format!("@{server} psst"));
    let (text, source) = server.receive_from();
    assert_eq!((&text[..], source.port()), (&b"psst"[..], chat.port));
    server.send_to(b"yes?", source).unwrap();
    assert_eq!(chat.next(), (server.to_string(), "yes?".to_owned()));
}

#[test]
fn only_the_sources_that_are_named_are_received_in_a_room() {
    let room = format!("232.7.8.9%lo:{}", free_port());
    let mut chat = Member::start(Tool::new("udp-chat"), &[&room, "--source", "127.0.0.2"]);
    for source in ["127.0.0.3", "127.0.0.2"] {
        Tool::new("udp-send").args([&room, "--bind", source, source]).assert().success();
    }
    assert_eq!(chat.text(), "127.0.0.2");
}

#[test]
fn what_a_chat_has_sent_to_its_room_itself_is_not_denied() {
    let room = format!("239.7.8.9%lo:{}", free_port());
    let mut chat =
        Member::start(Tool::new("udp-chat"), &[&room, "--allow", "127.0.0.2", "--stats", "-n", "1"]);
    let mut other = Member::start(Tool::new("udp-chat"), &[&room]);
    chat.chat.type_bytes(b"one\ntwo\n");
    assert_eq!([other.text(), other.text()], ["one", "two"]);
    Tool::new("udp-send").args([&room, "--bind", "127.0.0.2", "hi"]).assert().success();
    assert_eq!(chat.text(), "hi");
    let err = chat.chat.ended().err;
    assert!(err.contains("received 1 (2 bytes)") && counter(&err, "denied") == 0, "{err}");
}

#[test]
fn a_room_that_cannot_be_opened_is_named() {
    let holder = Peer::bind("0.0.0.0:0");
    let port = holder.port();
    for (arguments, status, words) in [
        (
            &["239.7.8.9%nosuch:7890"][..],
            1,
            "udp-chat: cannot resolve 239.7.8.9%nosuch:7890: unknown interface nosuch; this machine has lo",
        ),
        (
            &[&format!("239.7.8.9%lo:{port}")],
            1,
            &format!("udp-chat: cannot bind 239.7.8.9%lo:{port}: port {port} is in use by "),
        ),
        (
            &["--broadcast", &format!("127.255.255.255:{port}")],
            1,
            &format!("udp-chat: cannot bind 127.255.255.255:{port}: port {port} is in use by "),
        ),
        (&["-4", "[ff02::7:8%lo]:7890"], 2, "udp-chat: [ff02::7:8%lo]:7890 is an IPv6 address; leave out -4"),
        (
            &["239.7.8.9%lo:7890", "--join", "239.1.1.1%lo"],
            2,
            "udp-chat: --join 239.1.1.1%lo needs a port; add --bind :PORT, or write 239.1.1.1%lo with a port as another PEER",
        ),
        (
            &["239.7.8.9%lo:7890", "--source", "::1"],
            2,
            "udp-chat: --source ::1 is not of the IP version of group 239.7.8.9",
        ),
    ] {
        let stderr = complaint("udp-chat", arguments, status);
        assert!(stderr.starts_with(words) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
#[ignore = "needs python3"]
fn a_python_program_is_in_the_room() {
    let port = free_port();
    let program = format!(
        "import socket, sys\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         s.bind(('', {port}))\n\
         lo = socket.inet_aton('239.7.8.9') + socket.inet_aton('127.0.0.1')\n\
         s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, lo)\n\
         s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))\n\
         print('member', file=sys.stderr, flush=True)\n\
         for n in range(2):\n  \
           text, peer = s.recvfrom(999)\n  \
           print(text.decode(), flush=True)\n  \
           s.sendto(('to all: ' + text.decode()).encode(), ('239.7.8.9', {port}))\n  \
           s.recvfrom(999)\n  \
           s.sendto(b'to you', peer)"
    );
    let mut python = Tool::other("python3").args(["-c", &program]).spawn();
    python.err_line_with("member");
    let room = format!("239.7.8.9%lo:{port}");
    let [mut one, mut two] =
        ["Ann", "Bob"].map(|nick| Member::start(Tool::new("udp-chat"), &[&room, "--nick", nick]));
    one.chat.type_line("hello");
    assert_eq!(python.line(), "Ann: hello");
    assert_eq!((port_of(&two.next().0), two.text()), (one.port, "to all: Ann: hello".to_owned()));
    // They arrive at two sockets.
    let mut received = [one.next(), one.next()];
    received.sort_by_key(|(_, text)| text.clone());
    let received: Vec<_> = received.iter().map(|(source, text)| (port_of(source), &text[..])).collect();
    assert_eq!(received, [(port, "to all: Ann: hello"), (port, "to you")]);
    // A private line reaches it at the port of the room: no other socket receives unicasts there.
    two.chat.type_line(&format!("@127.0.0.1:{port} psst"));
    assert_eq!(python.line(), "Bob: psst");
    assert_eq!(one.text(), "to all: Bob: psst");
    let mut received = [two.text(), two.text()];
    received.sort();
    assert_eq!(received, ["to all: Bob: psst", "to you"]);
}

/// Three hosts at one switch.
struct Lan {
    hosts: [Namespace; 3],
    _switch: Namespace,
}

impl Lan {
    /// Creates hosts called after `name`. They have the addresses 192.0.2.1 to 3 and fe80::1 to 3 on `lan0`.
    fn new(name: &str) -> Self {
        let switch = Namespace::new(&format!("{name}-switch"));
        ip(&format!("-n {switch} link add bridge0 type bridge forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {switch} link set bridge0 up"));
        let hosts = [1, 2, 3].map(|number| {
            let host = Namespace::new(&format!("{name}-{number}"));
            let far = format!("port{number}");
            for command in [
                format!("link add lan0 netns {host} type veth peer name {far} netns {switch}"),
                format!("-n {switch} link set {far} master bridge0 up"),
                format!("-n {host} link set lan0 addrgenmode none"),
                format!("-n {host} address add 192.0.2.{number}/24 broadcast 192.0.2.255 dev lan0"),
                format!("-n {host} address add fe80::{number}/64 dev lan0 nodad"),
                format!("-n {host} link set lan0 up"),
                format!("-n {host} link set lo up"),
            ] {
                ip(&command);
            }
            host
        });
        for host in &hosts {
            await_up(host, "lan0", "state UP");
        }
        for number in 1..=3 {
            await_up(&switch, &format!("port{number}"), "state forwarding");
        }
        Self { hosts, _switch: switch }
    }
}

/// Waits until `host` reports `words` about `device`. Before that, what is sent there is lost.
fn await_up(host: &Namespace, device: &str, words: &str) {
    let until = Instant::now() + DEADLINE;
    while !ip(&format!("-n {host} -d -o link show dev {device}")).contains(words) {
        assert!(Instant::now() < until, "{device} is not ready");
    }
}

#[test]
fn a_nick_precedes_each_text_in_the_charset_of_the_wire() {
    let (one, two) = (Peer::new(), Peer::new());
    let arguments = ["--bind", "127.0.0.1:0", "--nick", "安娜", "-e", "gbk", &one.to_string()];
    let (mut chat, address) = Tool::new("udp-chat").args(arguments).spawn_listening();
    for (line, peer, text) in [
        ("你好".to_owned(), &one, "安娜: 你好"),
        (format!("@{two} psst"), &two, "安娜: psst"),
        ("@@home".to_owned(), &one, "安娜: @home"),
        (String::new(), &one, "安娜: "),
    ] {
        chat.type_line(&line);
        let (payload, source) = peer.receive_from();
        assert_eq!((encoding_rs::GBK.decode(&payload).0, source), (text.into(), address), "{line:?}");
    }
    // What others send has no such name.
    one.send_to(b"hi", address).unwrap();
    assert_eq!(chat.line(), format!("{one}\thi"));
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn a_nick_is_literal_in_escaped_input() {
    let peer = Peer::new();
    let arguments = ["--bind", "127.0.0.1:0", "--nick", r"a\x41", "-f", "escaped:text", &peer.to_string()];
    let (mut chat, _) = Tool::new("udp-chat").args(arguments).spawn_listening();
    chat.type_line(r"\x42");
    assert_eq!(peer.receive(), br"a\x41: B");
}

#[test]
fn an_unusable_nick_is_a_usage_error() {
    let refused = |arguments: &[&str]| complaint("udp-chat", &[arguments, &[":9"]].concat(), 2);
    assert_eq!(
        refused(&["--nick", ""]),
        "udp-chat: invalid value '' for '--nick <NAME>': empty; write a name, as in --nick Ann\n"
    );
    for control in ["a\tb", "a\x1bb", "a\nb", "\u{85}"] {
        let stderr = refused(&["--nick", control]);
        assert!(stderr.ends_with("it has control characters; leave them out\n"), "{stderr}");
    }
    for format in ["json", "hex", "base64", "hex:text"] {
        let input = format.split(':').next().unwrap();
        let why = format!("--nick has no effect with input format {input}; it applies to text and escaped\n");
        assert_eq!(refused(&["--nick", "Ann", "-f", format]), format!("udp-chat: {why}"));
    }
    let finished = Tool::new("udp-chat").args(["--nick", "Ann", "-f", "text:json", "-w", "1ms"]);
    finished.args(["--bind", "127.0.0.1:0"]).assert().success();
}
