"""A discovery handler with its callers and a prober of `livez`: processes of their own, so that none waits for another.

As a program: `calls ADDRESS LIMIT WATCHED` is a caller of Discover that reads details from standard input and prints one
line for each response: when it came, its bytes, its devices, and whether the device WATCHED is in it.
`probes PORT` asks for `livez` again and again and prints the slowest answers since it was last asked on standard input.
AKRI_MQTT_TEST_PYTHON: an interpreter with grpcio.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.environ.get("AKRI_MQTT_TEST_PYTHON", sys.executable)
# Once in each device of a response.
MARK = b"\x0a\x10MQTT_DEVICE_NAME"
PROBE_EVERY = 0.02


def varint(number):
    data = bytearray()
    while number > 127:
        data.append(number % 128 | 128)
        number //= 128
    return bytes(data) + bytes([number])


def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def call(address, limit, watched):
    """Akri's `v0.DiscoveryHandler/Discover`, without generated code."""
    import grpc

    request = field(1, sys.stdin.read().encode())
    if int(limit):
        asked = field(1, b"AKRI_MQTT_MAX_RESPONSE") + field(2, field(1, limit.encode()))
        request += field(2, asked)
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 128 << 20)])
    discover = channel.unary_stream("/v0.DiscoveryHandler/Discover", request_serializer=bytes, response_deserializer=bytes)
    for response in discover(request):
        listed = b"MQTT_DEVICE_NAME" in response and field(1, watched.encode()) in response
        print(json.dumps([time.monotonic(), len(response), response.count(MARK), listed]), flush=True)


def probe(port):
    took, lock = [], threading.Lock()

    def answer():
        for _ in sys.stdin:
            with lock:
                print(json.dumps(sorted(took)), flush=True)
                took.clear()
        os._exit(0)

    threading.Thread(target=answer, daemon=True).start()
    while True:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/livez")
        good = connection.getresponse().status == 200
        connection.close()
        ended = time.monotonic()
        with lock:
            took.append(ended - began if good else 60.0)
        time.sleep(max(0.0, PROBE_EVERY - (ended - began)))


class Calls:
    """A Discover call; `responses` grows by (time, bytes, devices, whether the watched device is in it)."""

    def __init__(self, handler, details, limit=0, watched=""):
        self.process = subprocess.Popen([PYTHON, __file__, "calls", handler.address, str(limit), watched],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.responses = []
        self.process.stdin.write(details)
        self.process.stdin.close()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.responses.append(tuple(json.loads(line)))

    def devices(self):
        return self.responses[-1][2] if self.responses else -1

    def since(self, count):
        """Responses after so many, their most bytes, and the devices of the last one."""
        new = self.responses[count:]
        return len(new), max((one[1] for one in new), default=0), self.devices()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Probes:
    """The prober: `slowest` gives the 99th percentile and the slowest answer in milliseconds since it was last asked."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, __file__, "probes", str(port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def slowest(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        took = json.loads(self.process.stdout.readline()) or [0.0]
        return took[int(len(took) * 0.99)] * 1e3, took[-1] * 1e3

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def metric(text, name):
    """The sum of a metric over its labels."""
    return sum(float(value) for value in re.findall(rf"^akri_mqtt_{name}(?:{{[^}}]*}})? (\S+)", text, re.M))


if __name__ == "__main__":
    {"calls": call, "probes": lambda port: probe(int(port))}[sys.argv[1]](*sys.argv[2:])
