"""Processes that are measured: Mosquitto, the monitoring broker, the discovery handler. In: devices and flags. Out: ports, CPU, memory, metrics.

AKRI_MQTT_TEST_BINARIES names a directory with release binaries; without it they are built.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
NAME = "akri-mqtt-monitoring-broker"
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(what, holds, limit=300, every=0.005):
    end = time.time() + limit
    while not holds():
        if time.time() > end:
            sys.exit(f"never happened: {what}")
        time.sleep(every)


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def cpu(pid):
    """Seconds of CPU that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid, field="VmRSS"):
    """Resident memory in MiB; `VmHWM` is the most that it ever was."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(field + r":\s+(\d+)", file.read())[1]) / 1024


def binary(name=NAME):
    directory = os.environ.get("AKRI_MQTT_TEST_BINARIES")
    if not directory:
        subprocess.check_call(["cargo", "build", "--quiet", "--release", "-p", name], cwd=ROOT)
        directory = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release")
    return os.path.join(directory, name)


class Scratch:
    """A directory for one run, on the disk that the first argument of the program names."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="bench.", dir=sys.argv[1] if len(sys.argv) > 1 else None)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """Ends with its block."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, **options)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def cpu(self):
        return cpu(self.pid)


class Mosquitto(Process):
    """A server that drops nothing."""

    def __init__(self, scratch):
        self.port = free_port()
        path = os.path.join(scratch, f"mosquitto-{self.port}.conf")
        self.log = f"{path}.log"
        with open(path, "w") as file:
            file.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 100\n"
                       f"user root\nlog_type subscribe\nlog_dest file {path}.log\n")
        super().__init__(["mosquitto", "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait("mosquitto", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)

    def has_subscribed(self, word):
        """Whether a client or a filter was in a SUBSCRIBE."""
        with open(self.log) as file:
            return any(word in line.split() for line in file)


def topic(device):
    return f"bench/d{device}/telemetry"


class Broker(Process):
    """A monitoring broker of so many devices, subscribed."""

    def __init__(self, server, scratch, devices=1, qos=1, flags=(), data=None):
        self.port, self.grpc = free_port(), free_port()
        self.data = data or tempfile.mkdtemp(dir=scratch)
        listed = os.path.join(self.data, "devices.json")
        with open(listed, "w") as file:
            json.dump([{"MQTT_DEVICE_ID": f"bench/d{n}", "MQTT_SERVER_URLS": f"tcp://127.0.0.1:{server.port}",
                        "MQTT_TOPICS": [f"bench/d{n}/#"], "MQTT_SESSION": {"qos": qos}} for n in range(devices)], file)
        program, started = binary(), time.time()
        super().__init__([program, "--devices-file", listed, "--data-dir", self.data, "--http", f"127.0.0.1:{self.port}",
                          "--grpc", f"127.0.0.1:{self.grpc}", *flags], env=dict(os.environ, RUST_LOG="warn"))
        wait("subscribed", lambda: '"ready":true' in get(self.port, "/readyz") and server.has_subscribed(f"bench/d{devices - 1}/#"))
        self.start_ms = (time.time() - started) * 1000

    def metric(self, name):
        found = re.search(rf"^akri_mqtt_{name} (\S+)", get(self.port, "/metrics"), re.M)
        return float(found[1]) if found else 0.0

    def stored(self):
        return int(self.metric("store_messages_total"))


class Handler(Process):
    """A discovery handler on network addresses of its own, with its state in `scratch`."""

    def __init__(self, scratch):
        self.port, self.grpc = free_port(), free_port()
        self.address, self.state = f"127.0.0.1:{self.grpc}", os.path.join(scratch, "state")
        command = [binary("akri-mqtt-discovery-handler"), "--directory", scratch, "--state-dir", self.state, "--instance", "bench",
                   "--endpoint", "network", "--listen", self.address, "--advertise", f"http://{self.address}",
                   "--admin", f"127.0.0.1:{self.port}"]
        log = open(os.path.join(scratch, "handler.log"), "ab")
        super().__init__(command, env=dict(os.environ, RUST_LOG="warn", AKRI_MQTT_NODE="bench"), stderr=log)
        wait("the handler", lambda: get(self.port, "/livez"))

    def metrics(self):
        return get(self.port, "/metrics")
