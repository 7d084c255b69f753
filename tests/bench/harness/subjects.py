"""Who takes the messages: the monitoring broker and its peers, each with the same questions: how many, how much CPU.

AKRI_MQTT_TEST_NODE_MODULES: a node_modules with `mqtt`. AKRI_MQTT_TEST_PYTHON: an interpreter with paho-mqtt.
"""

import os
import signal
import subprocess
import sys

from .processes import Broker, Process, wait

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.environ.get("AKRI_MQTT_TEST_PYTHON", sys.executable)


class Ours(Broker):
    name = "akri-mqtt, durable"

    def __init__(self, server, scratch, devices, qos, expected):
        super().__init__(server, scratch, devices, qos)

    def count(self):
        return self.stored()


class Counting(Process):
    """A program that says how many it has when a line comes."""

    def __init__(self, command):
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def count(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class MqttJs(Counting):
    name = "MQTT.js, storing nothing"

    def __init__(self, server, scratch, devices, qos, expected):
        super().__init__(["node", os.path.join(HERE, "mqttjs.cjs"), str(server.port), str(qos)])


class Paho(Counting):
    name = "paho-mqtt, storing nothing"

    def __init__(self, server, scratch, devices, qos, expected):
        super().__init__([PYTHON, os.path.join(HERE, "paho_peer.py"), str(server.port), str(qos)])


class PahoTable(Counting):
    """A dict of topics in Python, the least that somebody would write to know which devices are there."""

    def __init__(self, server):
        super().__init__([PYTHON, os.path.join(HERE, "paho_table.py"), str(server.port)])


class MosquittoSub(Process):
    """Each message is a line of a file, written in blocks; it ends by itself once it has as many as it is to have."""

    name = "mosquitto_sub to a file"

    def __init__(self, server, scratch, devices, qos, expected, topics="bench/#"):
        self.path, self.lines, self.at, self.usage = os.path.join(scratch, "appended"), 0, 0, None
        with open(self.path, "wb") as file:
            super().__init__(["mosquitto_sub", "-p", str(server.port), "-i", "peer", "-q", str(qos), "-v", "-t", topics,
                              "-C", str(expected)], stdout=file)
        wait("mosquitto_sub", lambda: server.has_subscribed("peer"))

    def ended(self, options):
        if self.usage is None:
            pid, _, usage = os.wait4(self.pid, options)
            self.usage = usage if pid else None
        return self.usage is not None

    def count(self):
        self.ended(os.WNOHANG)
        with open(self.path, "rb") as file:
            file.seek(self.at)
            for block in iter(lambda: file.read(1 << 20), b""):
                self.lines += block.count(b"\n")
                self.at += len(block)
        return self.lines

    def cpu(self):
        return super().cpu() if self.usage is None else self.usage.ru_utime + self.usage.ru_stime

    def __exit__(self, *_):
        if self.usage is None:
            os.kill(self.pid, signal.SIGTERM)
            self.ended(0)
        self.process.returncode = 0


def settle(subject, expected, limit=60):
    """Waits until it has as many, or nothing more comes; returns how many it has."""
    seen = [-1, 0]

    def holds():
        now = subject.count()
        seen[1] = 0 if now != seen[0] else seen[1] + 1
        seen[0] = now
        return now >= expected or seen[1] > 200

    wait("all messages", holds, limit=limit, every=0.02)
    return seen[0]
