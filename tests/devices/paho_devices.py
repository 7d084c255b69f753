"""Devices that speak through paho-mqtt, one operating-system process each.

In: --host --port --prefix --count --kind; out: one JSON line per device, {"device", "pid"}, then they publish until
they are ended. The kinds: `will` (retained birth and Last Will on <prefix>/<device>/status) and `plain` (data only).
Signals to a device's process: SIGKILL is a crash, SIGTERM a clean disconnect, SIGHUP makes it silent (it stays
connected), SIGUSR2 lets it speak again. A device ends when its parent does.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time

import paho.mqtt.client as mqtt


def run_device(options, name):
    silent = threading.Event()
    stop = threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: silent.set())
    signal.signal(signal.SIGUSR2, lambda *_: silent.clear())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    version = mqtt.MQTTv5 if options.version == 5 else mqtt.MQTTv311
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"dev-{options.prefix}-{name}", protocol=version)
    client.reconnect_delay_set(1, 2)
    status = f"{options.prefix}/{name}/status"
    if options.kind == "will":
        client.will_set(status, "offline", qos=1, retain=True)
        client.on_connect = lambda c, *_: c.publish(status, "online", qos=1, retain=True)
    while True:
        try:
            client.connect(options.host, options.port, keepalive=options.keepalive)
            break
        except OSError:
            time.sleep(0.2)
    client.loop_start()
    count = 0
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        if not silent.is_set():
            count += 1
            client.publish(f"{options.prefix}/{name}/data", json.dumps({"n": count, "temperature": 20 + count % 10}), qos=options.qos)
        stop.wait(options.every)
    # A clean disconnect: the server sends no Last Will, so a `will` device says good-bye itself.
    if options.kind == "will":
        client.publish(status, "offline", qos=1, retain=True).wait_for_publish(2)
    client.disconnect()
    client.loop_stop()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--names", required=True, help="comma-separated")
    parser.add_argument("--kind", choices=["will", "plain"], required=True)
    parser.add_argument("--version", type=int, choices=[4, 5], default=4)
    parser.add_argument("--qos", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--keepalive", type=int, default=5)
    options = parser.parse_args()
    for name in options.names.split(","):
        pid = os.fork()
        if pid == 0:
            run_device(options, name)
        print(json.dumps({"device": name, "pid": pid}), flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # The parent lives as long as the test holds its standard input; its devices end with it.
    sys.stdin.read()


if __name__ == "__main__":
    main()
