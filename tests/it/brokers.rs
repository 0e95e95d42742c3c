//! The recipes of docs/brokers.md move datagrams through real brokers, and lose nothing uncounted.

use nix::sys::signal::Signal;

use crate::harness::{Directory, Namespace, Running, Tool, counter, ip, path_with_tools};
use crate::readme::document;

/// How many datagrams are sent.
const SENT: usize = 1000;

struct Host {
    namespace: Namespace,
    directory: Directory,
}

impl Host {
    fn new() -> Self {
        let host = Self { namespace: Namespace::new("brokers"), directory: Directory::new("brokers") };
        ip(&format!("-n {} link set lo up", host.namespace));
        ip(&format!("-n {} address add 192.0.2.1/24 dev lo", host.namespace));
        host
    }

    fn shell(&self, script: &str) -> Tool {
        let shell = self.namespace.host(Tool::shell(script)).current_dir(self.directory.path());
        shell.env("PATH", format!("{}:/usr/sbin", path_with_tools())).env("HOSTNAME", "reader")
    }

    /// Starts Redis, and waits until it is up.
    fn start_redis(&self) -> Running {
        let mut redis =
            self.shell("exec redis-server --bind 192.0.2.10 --protected-mode no --save ''").spawn();
        while !redis.line().contains("Ready to accept connections") {}
        redis
    }

    /// Ends the listeners of the recipes, which pass on what they have.
    fn end_listeners(&self) {
        self.shell("kill -TERM $(pgrep --ns $$ --nslist net -f ^udp-listen)").assert().success();
    }

    /// Sends `SENT` numbered datagrams, at a pace that a receive buffer of any size holds.
    fn send(&self, to: &str) {
        let lines: String = (0..SENT).map(|number| format!("{number} \"\\ {{\u{e9}\n")).collect();
        let send = self.namespace.tool("udp-send").args(["-q", "--rate", "5000/s", to]);
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

/// Returns the first two commands below `heading`: one publishes, the other one subscribes.
fn recipe(heading: &str) -> [String; 2] {
    let brokers = document("docs/brokers.md");
    let (_, section) = brokers.split_once(&format!("## {heading}\n")).unwrap();
    let mut commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    [(); 2].map(|()| commands.next().unwrap().to_owned())
}

#[test]
#[ignore = "needs root, ip of iproute2, mosquitto, mosquitto_pub and mosquitto_sub"]
fn datagrams_pass_through_mqtt_and_back() {
    let host = Host::new();
    std::fs::write(host.directory.file("conf"), "listener 1883 192.0.2.10\nallow_anonymous true\n").unwrap();
    let mut broker = host.shell("exec mosquitto -v -c conf").spawn();
    broker.err_line_with(" running");
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
    let mut broker = host.shell("exec nats-server -V -a 192.0.2.10").spawn();
    broker.err_line_with("Server is ready");
    host.pass_on(
        "NATS",
        |line| line.replace(" nc ", " nc.openbsd "),
        || {
            broker.err_line_with("[SUB udp 1]");
        },
    );
}

#[test]
#[ignore = "needs root, ip of iproute2 and kcat"]
fn datagrams_pass_through_kafka_and_back() {
    let host = Host::new();
    // The cluster of librdkafka, which runs in a consumer of another topic.
    let cluster = "exec kcat -C -b 192.0.2.10 -t other -d mock -X test.mock.num.brokers=1";
    let mut cluster = host.shell(cluster).spawn();
    let line = cluster.err_line_with("bootstrap.servers=");
    let address = line.rsplit('=').next().unwrap().trim();
    host.pass_on("Kafka", |line| line.replace("192.0.2.10:9092", address), || ());
}

#[test]
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn what_a_broker_that_stops_does_not_take_is_queued_and_then_counted() {
    let host = Host::new();
    let broker = host.start_redis();
    let [write, _] = recipe("Redis streams");
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
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn listeners_that_share_a_port_publish_all_between_them() {
    let host = Host::new();
    let _broker = host.start_redis();
    let [write, _] = recipe("Redis streams");
    let write = write.replace("-f json", "-f json --reuse-port");
    let writers = [(); 3].map(|()| {
        let mut writer = host.shell(&write).spawn();
        writer.err_line_with("listening on");
        writer
    });
    for _ in 0..8 {
        host.send("192.0.2.1:514");
    }
    host.end_listeners();
    for writer in writers {
        writer.ended();
    }
    let stored = host.shell("redis-cli -h 192.0.2.10 XLEN udp").run();
    assert_eq!(stored.text(), format!("{}\n", 8 * SENT));
}

#[test]
#[ignore = "needs root, ip of iproute2, redis-server and redis-cli"]
fn a_journal_is_published_again_when_the_broker_is_back() {
    let host = Host::new();
    let [write, publish] = recipe("When the broker goes away");
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
