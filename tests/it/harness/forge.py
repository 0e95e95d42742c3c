"""Puts one forged packet on a cable. Needs root, in the network namespace that owns the device.

forge.py udp DEVICE HARDWARE SOURCE DESTINATION SOURCE_PORT DESTINATION_PORT PAYLOAD [damaged]
forge.py icmp DEVICE HARDWARE SOURCE DESTINATION QUOTED_SOURCE QUOTED_DESTINATION QUOTED_SOURCE_PORT \
QUOTED_DESTINATION_PORT

HARDWARE is that of the receiver, as in 02:00:00:00:00:02. The ICMPv6 error says "port unreachable".
"""

import socket
import struct
import sys


def checksum(octets):
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack("!%dH" % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_v6(address):
    return ":" in address


def octets_of(address):
    return socket.inet_pton(socket.AF_INET6 if is_v6(address) else socket.AF_INET, address)


def packet(source, destination, protocol, payload):
    addresses = octets_of(source) + octets_of(destination)
    if is_v6(source):
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload
    header = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    sum_of_header = checksum(header + b"\0\0" + addresses)
    return header + struct.pack("!H", sum_of_header) + addresses + payload


def pseudo(source, destination, protocol, length):
    layout = "!I3xB" if is_v6(source) else "!xBH"
    numbers = (length, protocol) if is_v6(source) else (protocol, length)
    return octets_of(source) + octets_of(destination) + struct.pack(layout, *numbers)


def udp(source, destination, source_port, destination_port, payload, damage=0):
    length = 8 + len(payload)
    ports = struct.pack("!HHH", source_port, destination_port, length)
    body = pseudo(source, destination, 17, length) + ports + b"\0\0" + payload
    return packet(source, destination, 17, ports + struct.pack("!H", checksum(body) ^ damage) + payload)


def icmp(source, destination, quoted):
    body = struct.pack("!BBHI", 1, 4, 0, 0) + quoted
    total = checksum(pseudo(source, destination, 58, len(body)) + body)
    return packet(source, destination, 58, body[:2] + struct.pack("!H", total) + body[4:])


kind, device, hardware, source, destination, *rest = sys.argv[1:]
if kind == "udp":
    forged = udp(source, destination, int(rest[0]), int(rest[1]), rest[2].encode(), 0x1234 if rest[3:] else 0)
else:
    forged = icmp(source, destination, udp(rest[0], rest[1], int(rest[2]), int(rest[3]), b"quoted"))
ethernet = bytes.fromhex(hardware.replace(":", "")) + b"\x02\0\0\0\0\x01"
ethernet += b"\x86\xdd" if is_v6(source) else b"\x08\0"
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
    cable.bind((device, 0))
    cable.send(ethernet + forged)
