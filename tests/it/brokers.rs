//! The recipes of docs/brokers.md move datagrams through real brokers, and lose nothing uncounted.

use nix::sys::signal::Signal;

use crate::harness::{Cable, Directory, Namespace, Running, Tool, counter, ip, path_with_tools};
use crate::readme::document;

/// How many datagrams are sent.
const SENT: usize = 1000;

struct Host {
    namespace: Namespace,
    directory: Directory,
}

impl Host {
    fn new() -> Self {
        let host = Self::of(Namespace::new("brokers"));
        ip(&format!("-n {} link set lo up", host.namespace));
        ip(&format!("-n {} address add 192.0.2.1/24 dev lo", host.namespace));
        host
    }

    fn of(namespace: Namespace) -> Self {
        Self { namespace, directory: Directory::new("brokers") }
    }

    fn shell(&self, script: &str) -> Tool {
        let shell = self.namespace.host(Tool::shell(script)).current_dir(self.directory.path());
        shell.env("PATH", format!("{}:/usr/sbin", path_with_tools())).env("HOSTNAME", "reader")
    }

    /// Starts mosquitto, and waits until it is up. It prints a line for each message.
    fn start_mosquitto(&self) -> Running {
        let settings = "listener 1883 192.0.2.10\nallow_anonymous true\n";
        std::fs::write(self.directory.file("conf"), settings).unwrap();
        let mut mosquitto = self.shell("exec mosquitto -v -c conf").spawn();
        mosquitto.err_line_with(" running");
        mosquitto
    }

    /// Starts Redis, and waits until it is up.
    fn start_redis(&self) -> Running {
        let mut redis =
            self.shell("exec redis-server --bind 192.0.2.10 --protected-mode no --save ''").spawn();
        while !redis.line().contains("Ready to accept connections") {}
        redis
    }

    /// Starts NATS, and waits until it is up. It prints a line for each message.
    fn start_nats(&self) -> Running {
        let mut nats = self.shell("exec nats-server -V -a 192.0.2.10").spawn();
        nats.err_line_with("Server is ready");
        nats
    }

    /// Starts the Kafka cluster of librdkafka, which runs in a consumer of another topic. Returns its address as well.
    fn start_kafka(&self) -> (Running, String) {
        let cluster = "exec kcat -C -b 192.0.2.10 -t other -d mock -X test.mock.num.brokers=1";
        let mut cluster = self.shell(cluster).spawn();
        let line = cluster.err_line_with("bootstrap.servers=");
        (cluster, line.rsplit('=').next().unwrap().trim().to_owned())
    }

    /// Ends the listeners of the recipes, which pass on what they have.
    fn end_listeners(&self) {
        self.signal_listeners("TERM");
    }

    fn signal_listeners(&self, signal: &str) {
        let kill = format!("kill -{signal} $(pgrep --ns $$ --nslist net -f ^udp-listen)");
        self.shell(&kill).assert().success();
    }

    /// Sends `SENT` numbered datagrams, at a pace that a receive buffer of any size holds, and none together with
    /// another: the kernel counts a batch that it drops once.
    fn send(&self, to: &str) {
        let lines: String = (0..SENT).map(|number| format!("{number} \"\\ {{\u{e9}\n")).collect();
        let send = self.namespace.tool("udp-send").args(["-q", "--interval", "200us", to]);
        send.input(lines).assert().success();
    }

    /// Runs the two commands of a recipe, and checks that all that is sent to the first leaves the second.
    fn pass_on(&self, heading: &str, adapt: impl Fn(&str) -> String, await_reader: impl FnOnce()) {
        let [write, read] = recipe(heading).map(|command| adapt(&command));
        let sink = self.namespace.tool("udp-listen").args(["192.0.2.20:514", "-n", &SENT.to_string()]);
        let (sink, _) = sink.args(["-w", "20s"]).spawn_listening();
        let _reader = self.shell(&read).spawn();
        await_reader();
        let mut writer = self.shell(&write).spawn();
        writer.err_line_with("listening on");
        self.send("192.0.2.1:514");
        // kcat holds back less than a block of its input until the end.
        self.end_listeners();
        writer.ended();
        let received = sink.ended();
        for (number, line) in received.text().lines().enumerate() {
            assert_eq!(line, format!("{number} \"\\ {{\u{e9}"), "{heading}");
        }
        assert_eq!(received.text().lines().count(), SENT, "{heading}: {}", received.err);
    }
}

/// Ends mosquitto, and returns how many messages it has received.
fn published(broker: Running) -> u64 {
    broker.ended_by(Signal::SIGTERM).err.matches("Received PUBLISH ").count() as u64
}

/// Returns the first commands below `heading`: one publishes, the second one subscribes.
fn recipe<const COMMANDS: usize>(heading: &str) -> [String; COMMANDS] {
    let brokers = document("docs/brokers.md");
    let (_, section) = brokers.split_once(&format!("## {heading}\n")).unwrap();
    let mut commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    [(); COMMANDS].map(|()| commands.next().unwrap().to_owned())
}

#[test]
#[ignore = "needs root, ip of iproute2, mosquitto, mosquitto_pub and mosquitto_sub"]
fn datagrams_pass_through_mqtt_and_back() {
    let host = Host::new();
    let mut broker = host.start_mosquitto();
    host.pass_on("MQTT", str::to_owned, || drop(broker.err_line_with("Sending SUBACK")));
}

#[test]
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn datagrams_pass_through_a_redis_stream_and_back() {
    let host = Host::new();
    let _redis = host.start_redis();
    host.pass_on("Redis streams", str::to_owned, || ());
}

#[test]
#[ignore = "needs root, ip of iproute2, nats-server and nc.openbsd"]
fn datagrams_pass_through_nats_and_back() {
    let host = Host::new();
    let mut broker = host.start_nats();
    let await_reader = || drop(broker.err_line_with("[SUB udp 1]"));
    host.pass_on("NATS", |line| line.replace(" nc ", " nc.openbsd "), await_reader);
}

#[test]
#[ignore = "needs root, ip of iproute2 and kcat"]
fn datagrams_pass_through_kafka_and_back() {
    let host = Host::new();
    let (_cluster, address) = host.start_kafka();
    host.pass_on("Kafka", |line| line.replace("192.0.2.10:9092", &address), || ());
}

#[test]
#[ignore = "needs root, ip of iproute2, nats-server, nc.openbsd and kcat"]
fn a_listener_ends_after_a_client_that_exits_with_its_broker_and_senders_are_refused() {
    let host = Host::new();
    let (kafka, address) = host.start_kafka();
    let nats = host.start_nats();
    for (broker, heading, status) in [(kafka, "Kafka", 1), (nats, "NATS", 0)] {
        let [write] = recipe(heading);
        let write = write.replace("192.0.2.10:9092", &address).replace(" nc ", " nc.openbsd ");
        let write = write.replacen(" |", "; echo udp-listen: status $? >&2; } |", 1);
        let mut writer = host.shell(&format!("{{ {write}")).spawn();
        writer.err_line_with("listening on");
        host.send("192.0.2.1:514");
        drop(broker);
        // Status 4 is that of a refusal.
        host.shell("seq 1000 | udp-send -q --interval 1ms 192.0.2.1:514").assert().code(4);
        let written = writer.ended();
        assert_eq!(written.code(), Some(status), "{heading}: {}", written.err);
        assert!(written.err.contains("udp-listen: status 0\n"), "{heading}: {}", written.err);
    }
}

#[test]
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn what_a_broker_that_stops_does_not_take_is_queued_and_then_counted() {
    let host = Host::new();
    let broker = host.start_redis();
    let [write] = recipe("Redis streams");
    let write = write.replace("-f json", "-f json --queue 16KiB --buffer 16KiB --stats");
    broker.stop();
    let mut listener = host.shell(&format!("{write}; redis-cli -h 192.0.2.10 XLEN udp")).spawn();
    listener.err_line_with("listening on");
    for _ in 0..4 {
        host.send("192.0.2.1:514");
    }
    broker.signal(Signal::SIGCONT);
    host.end_listeners();
    let finished = listener.ended();
    let stored: u64 = finished.text().trim().parse().unwrap();
    let dropped = counter(&finished.err, "dropped");
    assert!(dropped > 0 && stored > 0, "{stored} stored: {}", finished.err);
    assert_eq!(stored + dropped, 4 * SENT as u64, "{}", finished.err);
}

#[test]
#[ignore = "needs root, ip of iproute2, mosquitto and mosquitto_pub"]
fn what_is_queued_while_a_broker_is_away_is_published_and_what_does_not_fit_is_counted() {
    let host = Host::new();
    let mut broker = host.start_mosquitto();
    let [write] = recipe("When the broker goes away");
    let write = write.replace("-f json", "-f json --queue 16KiB --buffer 16KiB");
    let mut writer = host.shell(&write).spawn();
    writer.err_line_with("listening on");
    host.shell("udp-send -q 192.0.2.1:514 first").assert().success();
    broker.err_line_with("Received DISCONNECT");
    drop(broker);
    host.send("192.0.2.1:514");
    writer.err_line_with("Error: Connection refused");
    host.end_listeners();
    let received = writer.err_line_with("udp-listen: received ");
    let stopped = writer.err_line_with(" received datagrams were not written");
    let broker = host.start_mosquitto();
    assert_eq!(writer.ended().code(), Some(0));
    let unwritten: u64 = stopped.split(' ').find_map(|word| word.parse().ok()).unwrap();
    let [published, dropped] = [published(broker), counter(&received, "dropped")];
    assert!(published > 0 && dropped > 0 && unwritten > 0, "{published} published: {received}, {stopped}");
    assert_eq!(published + dropped + unwritten, SENT as u64, "{published} published: {received}, {stopped}");
}

#[test]
#[ignore = "needs root, ip of iproute2, mosquitto and mosquitto_pub"]
fn mosquitto_pub_publishes_later_what_arrives_while_its_broker_is_away() {
    let host = Host::new();
    let mut broker = host.start_mosquitto();
    let [write] = recipe("MQTT");
    let mut writer = host.shell(&write).spawn();
    writer.err_line_with("listening on");
    broker.err_line_with("Sending CONNACK");
    drop(broker);
    host.send("192.0.2.1:514");
    host.end_listeners();
    let broker = host.start_mosquitto();
    assert_eq!(writer.ended().code(), Some(0));
    assert_eq!(published(broker), SENT as u64);
}

#[test]
#[ignore = "needs root, ip of iproute2, mosquitto and mosquitto_pub"]
fn listeners_that_share_a_port_publish_or_count_what_another_host_sends() {
    let cable = Cable::new("brokers");
    let third = cable.extend("brokers");
    ip(&format!("-n {third} address add 192.0.2.10 dev cable1"));
    ip(&format!("-n {} route add 192.0.2.10 via 203.0.113.2", cable.far));
    let [senders, listeners, brokers] = [cable.near, cable.far, third].map(Host::of);
    let broker = brokers.start_mosquitto();
    let [write] = recipe("Several listeners");
    let write = write.replace("192.0.2.1:514", "192.0.2.2:514 --buffer 16KiB");
    let writers = [(); 2].map(|()| {
        let mut writer = listeners.shell(&write).spawn();
        writer.err_line_with("listening on");
        writer
    });
    let send = "for sender in $(seq 20); do seq 100 | udp-send -q --interval 200us 192.0.2.2:514; done";
    senders.shell(send).assert().success();
    listeners.signal_listeners("STOP");
    senders.shell(send).assert().success();
    listeners.signal_listeners("CONT");
    listeners.end_listeners();
    let written = writers.map(|writer| writer.ended().err);
    let [received, dropped] =
        ["received", "dropped"].map(|name| written.each_ref().map(|err| counter(err, name)));
    assert!([received, dropped].as_flattened().iter().all(|datagrams| *datagrams > 0), "{written:?}");
    assert_eq!(published(broker), received.iter().sum::<u64>());
    assert_eq!(received.iter().chain(&dropped).sum::<u64>(), 2 * 20 * 100, "{written:?}");
}

#[test]
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn a_journal_is_published_again_when_the_broker_is_back() {
    let host = Host::new();
    let [_, write, publish] = recipe("When the broker goes away");
    let mut broker = Some(host.start_redis());
    for round in 1..=2 {
        let mut writer = host.shell(&write).spawn();
        writer.err_line_with("listening on");
        host.send("192.0.2.1:514");
        host.end_listeners();
        writer.ended();
        // This kills the broker, which has stored nothing on a disk.
        drop(broker.take());
        let refused = host.shell(&publish).run().err;
        assert!(refused.contains("Connection refused"), "{refused}");
        broker = Some(host.start_redis());
        host.shell(&publish).assert().success();
        let stored = host.shell("redis-cli -h 192.0.2.10 XLEN udp").run();
        assert_eq!(stored.text(), format!("{}\n", round * SENT));
    }
}
