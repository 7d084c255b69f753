"""Devices that all lose their power at once: as many MQTT connections, each with a Last Will, in one process that is killed.

As a program: PORT FIRST COUNT; each connection announces its device and says `ready` once all have.
"""

import socket
import subprocess
import sys

if __package__:
    from .load import exactly, packet
else:
    from load import exactly, packet


def text(value):
    return len(value).to_bytes(2, "big") + value


def connect(port, device):
    connection = socket.create_connection(("127.0.0.1", port))
    topic = text(f"scale/d{device}/status".encode())
    # Clean session, will with QoS 0, not retained; a keep-alive of 10 minutes.
    body = text(b"MQTT") + bytes([4, 0b110]) + (600).to_bytes(2, "big") + text(f"d{device}".encode()) + topic + text(b"offline")
    connection.sendall(packet(0x10, body) + packet(0x30, topic + b"online"))
    return connection


def main():
    port, first, count = (int(argument) for argument in sys.argv[1:4])
    connections = []
    for device in range(first, first + count):
        connections.append(connect(port, device))
    for connection in connections:
        if exactly(connection, 4)[3] != 0:
            raise OSError("refused")
    print("ready", flush=True)
    sys.stdin.read()


class Site:
    """The devices of one site, connected once `ready` returns."""

    def __init__(self, server, first, count):
        self.process = subprocess.Popen([sys.executable, __file__, str(server.port), str(first), str(count)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.process.stdout.readline() == "ready\n"

    def cut(self):
        self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    main()
