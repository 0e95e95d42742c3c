"""A server and a client of QUIC: `serve` prints its port, and `get PORT` downloads 10 MB and checks them."""

import asyncio
import datetime
import random
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DATA = random.Random(1).randbytes(10_000_000)


def configuration(**more):
    # With a fifth lost the window stays at a few datagrams: long ones take a small part of the time.
    limits = {"max_data": 1 << 24, "max_stream_data": 1 << 24, "max_datagram_size": 16384}
    return QuicConfiguration(alpn_protocols=["test"], **limits, **more)


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    return {"certificate": builder.sign(key, hashes.SHA256()), "private_key": key}


async def answer(reader, writer):
    await reader.read()
    writer.write(DATA)
    writer.write_eof()


async def run_server():
    def handle(reader, writer):
        asyncio.ensure_future(answer(reader, writer))

    settings = configuration(is_client=False, **certificate())
    server = await serve("127.0.0.1", 0, configuration=settings, stream_handler=handle)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Future()


async def run_client(port):
    settings = configuration(is_client=True, verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", port, configuration=settings) as client:
        reader, writer = await client.create_stream()
        writer.write(b"all")
        writer.write_eof()
        assert await reader.read() == DATA
        print("10 MB")


asyncio.run(run_server() if sys.argv[1] == "serve" else run_client(int(sys.argv[2])))
