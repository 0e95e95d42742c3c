#!/usr/bin/env python3
"""Counts the instructions in user space that the tools spend on one datagram, beside the most that they may spend.

    cargo build --release && benches/instructions.py [--bin DIR] [--keep DIR] [ROW]...

valgrind counts them in two runs of the release binaries, over real sockets on the loopback; the difference of the two
is the work of the datagrams that only the longer one has. How busy the machine is does not matter, and a run that
loses a datagram fails. ROW selects the rows whose name contains it. The exit status is 1 if a row is above its bar.
"""

import argparse
import base64
import pathlib
import random
import re
import shutil
import socket
import string
import struct
import subprocess
import sys
import tempfile
from typing import Callable, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
# How many datagrams the kernel takes, and passes on, as one.
SEGMENTS = 64
# The numbers of datagrams of the two runs. The first is behind all that happens once, such as the growth of buffers.
RUNS = (1000 * SEGMENTS, 6000 * SEGMENTS)
# The length of a payload in bytes.
SIZE = 63
# How many bytes may wait in a receive buffer, as the kernel counts them: any system has room for twice as many.
WAITING = 200_000
# After this a run has failed.
TIMEOUT = "300s"
# Options of UDP in Linux (udp(7)), which Python does not name.
UDP_SEGMENT = 103


class Row(NamedTuple):
    """Work, and the most instructions that it may take for one datagram."""

    name: str
    bar: int
    # Does the work for a number of datagrams, and returns how many instructions that took.
    work: Callable[["Bench", int], int]


class Failure(Exception):
    """A run that measures nothing."""


class Bench:
    """The programs, and a directory for what a run needs."""

    def __init__(self, binaries, directory, keep):
        self.binaries, self.directory, self.keep = binaries, directory, keep
        self.row = None

    def program(self, name):
        path = self.binaries / name
        if not path.exists():
            raise Failure(f"no {path}; run cargo build --release first")
        return str(path)

    def counted(self, name):
        """Returns a command that counts the instructions of a tool."""
        profile = f"{self.keep}/{self.row}" if self.keep else "/dev/null"
        log = f"--log-file={self.directory}/log"
        return ["valgrind", "--tool=callgrind", log, f"--callgrind-out-file={profile}", self.program(name)]

    def count(self):
        """Returns the instructions that the last counted command took, which has ended."""
        return int(re.search(r"Collected : (\d+)", (self.directory / "log").read_text())[1])


def sends(records, *options, header=b"", has_destination=True):
    """Returns the work of udp-send that sends `records(count)` from a file to a udp-listen that counts them. PORT in a
    record is where that listens, for those that name their destination themselves."""

    def work(bench, count):
        path = bench.directory / "input"
        listen = listening([bench.program("udp-listen"), *of_count(count), "-f", "raw"])
        path.write_bytes(header + b"".join(records(count)).replace(b"PORT", b"%d" % listen.port))
        destination = [f"127.0.0.1:{listen.port}"] if has_destination else []
        command = [*bench.counted("udp-send"), "-q", *options, *destination]
        with path.open("rb") as stdin:
            sent = subprocess.run(command, stdin=stdin, check=False)
        if sent.returncode != 0:
            listen.process.kill()
        listen.wait()
        return bench.count()

    return work


def receives(*options):
    """Returns the work of udp-listen that receives equal datagrams, in batches, and prints them."""

    def work(bench, count):
        listen = listening([*bench.counted("udp-listen"), *of_count(count), *options])
        send_equal(listen.port, count)
        listen.wait()
        return bench.count()

    return work


def of_count(count):
    """Returns the arguments of a udp-listen that fails unless it receives this number of datagrams."""
    return ["127.0.0.1:0", "-n", str(count), "-w", TIMEOUT]


class listening:
    """A udp-listen that runs."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.first_line = self.process.stderr.readline()
        bound = re.search(r"listening on .*:(\d+)$", self.first_line)
        if not bound:
            raise Failure(self.first_line + self.process.stderr.read())
        self.port = int(bound[1])

    def wait(self):
        """Waits until it has received all datagrams."""
        stderr = self.process.stderr.read()
        if self.process.wait() != 0:
            raise Failure(stderr)


def send_equal(port, count):
    """Sends datagrams as segments, and no faster than they are received."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SIZE)
        sender.connect(("127.0.0.1", port))
        batch = b"x" * SIZE * SEGMENTS
        for sent in range(0, count, SEGMENTS):
            while waiting(port) > WAITING:
                pass
            try:
                sender.send(batch)
            except ConnectionRefusedError:
                # Its exit status tells why it has ended.
                return


def waiting(port):
    """Returns how many bytes wait in the receive buffer of a port, or 0 if it is closed."""
    with open("/proc/net/udp", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if fields[1].endswith(f":{port:04X}"):
                return int(fields[4].split(":")[1], 16)
    return 0


def equal_lines(count):
    return [b"x" * SIZE + b"\n"] * count


def random_lines(count):
    """Returns lines of 20 to 120 printable bytes, which are the same in every run."""
    numbers = random.Random(1)
    return [bytes(numbers.choices(range(33, 123), k=numbers.randint(20, 120))) + b"\n" for _ in range(count)]


def records(record, payload=lambda numbers: numbers.randbytes(SIZE)):
    """Returns what returns the records that `record` makes of random payloads, which are the same in every run."""

    def of(count):
        numbers = random.Random(1)
        some = [record(payload(numbers)) for _ in range(1000)]
        return (some[number % len(some)] for number in range(count))

    return of


def plain(numbers):
    return "".join(numbers.choices(string.ascii_letters + "    ", k=SIZE)).encode()


def plain_lines(count):
    return records(lambda payload: payload + b"\n", plain)(count)


def with_escapes(payload, escapes):
    """Returns a payload with an escape in place of every ninth byte."""
    return b"".join(payload[9 * at : 9 * at + 8] + escape for at, escape in enumerate(escapes))


def escaped(payload):
    escapes = [rb"\n", rb"\r", rb"\t", rb"\0", rb"\\", rb"\x1b", rb"\xff"]
    return with_escapes(payload, escapes) + b"\n"


def escaped_in_json(payload):
    escapes = [rb"\n", rb"\r", rb"\t", rb"\"", rb"\\", rb"\u001b", rb"\u007f"]
    return b'{"text":"%b"}\n' % with_escapes(payload, escapes)


def chinese(numbers):
    """Returns frequent characters of which each has two bytes in GBK, and one letter."""
    codes = [bytes([numbers.randint(0xB0, 0xD6), numbers.randint(0xA1, 0xFE)]) for _ in range(SIZE // 2)]
    return b"".join(codes).decode("gbk").encode() + b"a"


def printed_by_listen(count):
    """Returns objects as `udp-listen -f json` prints them."""
    texts = records(bytes, plain)(count)
    for number, text in enumerate(texts):
        time = b"2026-11-27T07:%02d:%02d.%09dZ" % (number // 1_800_000, number // 30_000 % 60, number * 33_333 % 10**9)
        addresses = b'"from":"192.0.2.1:34367","to":"192.0.2.2:7788"'
        yield b'{"time":"%b",%b,"size":%d,"text":"%b"}\n' % (time, addresses, SIZE, text)


# A file header of libpcap: nanoseconds, version 2.4, no limit, links of raw IP.
PCAP = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 101)


def packet(payload):
    """Returns a record of libpcap: a packet over IPv4 between two addresses, without checksums."""
    udp = struct.pack(">HHHH", 34367, 7788, 8 + SIZE, 0) + payload
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + addresses + udp
    return struct.pack("<IIII", 1_795_000_000, 5, len(ip), len(ip)) + ip


ROWS = [
    Row("udp-send, equal lines", 150, sends(equal_lines)),
    Row("udp-send, lines of 20 to 120 bytes", 200, sends(random_lines)),
    Row("udp-send -f hex", 250, sends(records(lambda payload: b"%b\n" % payload.hex().encode()), "-f", "hex")),
    Row("udp-send -f base64", 250, sends(records(lambda payload: base64.b64encode(payload) + b"\n"), "-f", "base64")),
    Row("udp-send -f escaped, without escapes", 400, sends(plain_lines, "-f", "escaped")),
    Row("udp-send -f escaped, every ninth byte an escape", 800, sends(records(escaped, plain), "-f", "escaped")),
    Row("udp-send -f framed", 200, sends(records(lambda payload: struct.pack(">H", SIZE) + payload), "-f", "framed")),
    Row(
        "udp-send -f json",
        450,
        sends(records(lambda text: b'{"text":"%b"}\n' % text, plain), "-f", "json"),
    ),
    Row("udp-send -f json, what udp-listen -f json prints", 800, sends(printed_by_listen, "-f", "json")),
    Row(
        "udp-send -f json, every ninth byte an escape",
        1500,
        sends(records(escaped_in_json, plain), "-f", "json"),
    ),
    Row(
        'udp-send -f json, with "to"',
        600,
        sends(
            records(lambda text: b'{"to":"127.0.0.1:PORT","text":"%b"}\n' % text, plain),
            *["-f", "json"],
            has_destination=False,
        ),
    ),
    Row("udp-send -f pcap", 350, sends(records(packet), "-f", "pcap", header=PCAP)),
    Row("udp-send -e gbk, ASCII", 200, sends(plain_lines, "-e", "gbk")),
    Row("udp-send -e gbk, Chinese", 1850, sends(records(lambda text: text + b"\n", chinese), "-e", "gbk")),
    Row("udp-listen, text", 120, receives()),
    Row("udp-listen -p", 250, receives("-p")),
    Row("udp-listen -f json", 450, receives("-f", "json")),
    Row("udp-listen -f hex", 250, receives("-f", "hex")),
    Row("udp-listen -f base64", 250, receives("-f", "base64")),
    Row("udp-listen -f escaped", 400, receives("-f", "escaped")),
    Row("udp-listen -f pcap", 350, receives("-f", "pcap")),
]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="measure the rows whose name contains this")
    parser.add_argument(
        "--bin", type=pathlib.Path, default=ROOT / "target/release", metavar="DIR", help="where the binaries are"
    )
    parser.add_argument("--keep", metavar="DIR", help="keep the profile of each row there, for callgrind_annotate")
    arguments = parser.parse_args()
    chosen = [row for row in ROWS if not arguments.rows or any(part in row.name for part in arguments.rows)]
    if not chosen:
        parser.error(f"no such row: {', '.join(arguments.rows)}")
    if not shutil.which("valgrind"):
        parser.error("valgrind is not installed")
    are_missed = False
    print("| instructions for one datagram of 63 bytes | now | bar | |\n|---|--:|--:|---|")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(arguments.bin, pathlib.Path(directory), arguments.keep)
        for row in chosen:
            bench.row = re.sub(r"[ ,]+", "_", row.name)
            try:
                few, many = (row.work(bench, count) for count in RUNS)
            except Failure as failure:
                sys.exit(f"{row.name}: {failure}")
            now = (many - few) / (RUNS[1] - RUNS[0])
            is_missed = now > row.bar
            are_missed |= is_missed
            print(f"| {row.name} | {now:.0f} | {row.bar} | {'above' if is_missed else ''} |", flush=True)
    sys.exit(1 if are_missed else 0)


if __name__ == "__main__":
    main()
