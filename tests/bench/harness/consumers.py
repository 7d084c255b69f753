"""Consumers that time what they get: each message says when it was sent, on the clock that all processes share.

As a program: `mqtt`, `watch` or `sse`, then PORT and COUNT; it says `ready`, and at the end its latencies in milliseconds.
"""

import json
import re
import socket
import subprocess
import sys
import time

if __package__:
    from .load import connect, exactly, packet
    from .subjects import PYTHON
else:
    from load import connect, exactly, packet

SENT = re.compile(rb'"sent":(\d+)')
METHOD = "/akri_mqtt.monitoring.v1.Monitoring/Watch"


def read_packet(connection):
    kind, length, shift = exactly(connection, 1)[0], 0, 0
    while True:
        byte = exactly(connection, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, exactly(connection, length) if length else b""


def mqtt(port):
    """A subscriber of QoS 1 that acknowledges at once."""
    connection = connect(port, "plain")
    connection.sendall(packet(0x82, b"\0\1\0\7bench/#\1"))
    for kind, body in iter(lambda: read_packet(connection), None):
        if kind >> 4 == 9:
            yield None
        elif kind >> 4 == 3:
            at = 2 + int.from_bytes(body[:2], "big")
            if kind & 6:
                connection.sendall(packet(0x40, body[at:at + 2]))
            yield body


def watch(port):
    """gRPC, with messages left as they are on the wire."""
    import grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        # `include_presence`: the first answer says that the stream is open.
        for answer in channel.unary_stream(METHOD)(b"\x28\x01"):
            yield answer if SENT.search(answer) else None


def sse(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: bench\r\n\r\n")
    text = b""
    while True:
        more = connection.recv(65_536)
        if not more:
            return
        text += more
        *events, text = text.split(b"\n\n")
        for event in events:
            yield event if SENT.search(event) else None


def main():
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    latencies, is_open = [], False
    for message in {"mqtt": mqtt, "watch": watch, "sse": sse}[kind](port):
        now = time.monotonic_ns()
        if message is None:
            if not is_open:
                print("ready", flush=True)
            is_open = True
            continue
        latencies.append((now - int(SENT.search(message)[1])) / 1e6)
        if len(latencies) == count:
            break
    print(json.dumps(latencies), flush=True)


class Consumer:
    """The program in a process of its own, ready."""

    def __init__(self, kind, port, count):
        command = [PYTHON, __file__, kind, str(port), str(count)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def latencies(self):
        found = json.loads(self.process.stdout.readline())
        self.process.wait()
        return found


if __name__ == "__main__":
    main()
