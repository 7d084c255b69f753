"""Publishes as fast as the server takes it, or at a rate, with packets that were made before. MQTT 3.1.1, four connections.

As a program: PORT QOS COUNT DEVICES [RATE]; it says `ready`, begins with each line on standard input, and says `sent`.
"""

import random
import socket
import subprocess
import sys
import threading
import time

CONNECTIONS = 4
# Packets of QoS 1 that one connection has under way, and how many are sent at once.
WINDOW, CHUNK = 1_000, 250


def connect(port, client, name=b"MQTT"):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = len(name).to_bytes(2, "big") + name + bytes([4, 2, 0, 0]) + len(client).to_bytes(2, "big") + client.encode()
    connection.sendall(packet(0x10, body))
    if exactly(connection, 4)[3] != 0:
        raise OSError("refused")
    return connection


def packet(kind, body):
    head, rest = bytearray([kind]), len(body)
    while True:
        head.append(rest % 128 | (0x80 if rest > 127 else 0))
        rest //= 128
        if not rest:
            return bytes(head) + body


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def payload(number, device):
    return ('{"device":"line-%d/device","temperature":%d.5,"humidity":%d,"state":"running","counter":%d,"ok":true,"sent":%d}'
            % (device % 20, number % 90, number % 100, number, time.monotonic_ns())).encode()


def publish(device, qos, number, body=None):
    name = f"bench/d{device}/telemetry".encode()
    identifier = (number % 65_535 + 1).to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, len(name).to_bytes(2, "big") + name + identifier + (body or payload(number, device)))


class Acks:
    """Counts PUBACKs, four bytes each."""

    def __init__(self, connection):
        self.connection, self.bytes = connection, 0

    def until(self, count):
        while self.bytes < 4 * count:
            more = self.connection.recv(65_536)
            if not more:
                raise OSError("closed")
            self.bytes += len(more)


def blast(connection, packets, qos):
    acks = Acks(connection)
    for start in range(0, len(packets), CHUNK):
        connection.sendall(b"".join(packets[start:start + CHUNK]))
        if qos:
            acks.until(start + CHUNK - WINDOW)
    if qos:
        acks.until(len(packets))
    # The server answers once it has taken everything before.
    connection.sendall(packet(0xC0, b""))
    exactly(connection, 2)


def pace(connection, devices, qos, rate, count):
    """One message after the other, each with the time when it is sent."""
    acks = Acks(connection)
    begin = time.monotonic()
    for number, device in enumerate(devices[:count]):
        pause = begin + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        connection.sendall(publish(device, qos, number))
        if qos and number % 1_000 == 999:
            acks.until(number - WINDOW)


def chosen(count, devices):
    """Devices at random, the same in every run."""
    source = random.Random(7)
    return [source.randrange(devices) for _ in range(count)]


def main():
    port, qos, count, devices = (int(argument) for argument in sys.argv[1:5])
    rate = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    order = chosen(count, devices)
    if rate:
        connection = connect(port, "load-paced")
        start(lambda: pace(connection, order, qos, rate, count))
        return
    connections = [connect(port, f"load-{n}") for n in range(CONNECTIONS)]
    shares = [[publish(device, qos, number) for number, device in enumerate(order[n::CONNECTIONS])] for n in range(CONNECTIONS)]

    def all_at_once():
        threads = [threading.Thread(target=blast, args=(c, s, qos)) for c, s in zip(connections, shares)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    start(all_at_once)


def start(work):
    print("ready", flush=True)
    for _ in sys.stdin:
        work()
        print("sent", flush=True)


class Load:
    """The program in a process of its own."""

    def __init__(self, server, qos, count, devices, rate=0):
        arguments = [str(value) for value in (server.port, qos, count, devices, rate)]
        self.process = subprocess.Popen([sys.executable, __file__, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def sent(self):
        assert self.process.stdout.readline() == "sent\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def touch(server, devices):
    """One message of each device, so that what comes first is not measured."""
    connection = connect(server.port, "load-touch")
    blast(connection, [publish(device, 0, device) for device in range(devices)], 0)
    connection.close()


if __name__ == "__main__":
    main()
