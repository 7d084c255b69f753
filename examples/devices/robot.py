#!/usr/bin/env python3
"""A robot that announces itself, publishes its joints, and leaves a Last Will.

Kill it with SIGKILL and the MQTT server publishes its will; stop it with Ctrl-C and it says goodbye itself.
Needs paho-mqtt 2.
"""

import argparse
import json
import math
import signal
import threading
import time

import paho.mqtt.client as mqtt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--name", default="r1")
    parser.add_argument("--period", type=float, default=1.0, help="seconds between two messages")
    parser.add_argument("--qos", type=int, choices=(0, 1, 2), default=1)
    arguments = parser.parse_args()

    status = f"robots/{arguments.name}/status"
    joints = f"robots/{arguments.name}/joints"
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"robot-{arguments.name}")
    client.will_set(status, "offline", qos=1, retain=True)
    # After each connect, also one of many: the server may have published the will meanwhile.
    client.on_connect = lambda *_: client.publish(status, "online", qos=1, retain=True)
    client.connect(arguments.host, arguments.port, keepalive=15)
    client.loop_start()
    start = time.monotonic()
    while not stopped.wait(arguments.period):
        angle = time.monotonic() - start
        payload = {"shoulder": round(math.sin(angle), 4), "elbow": round(math.cos(angle), 4)}
        client.publish(joints, json.dumps(payload), qos=arguments.qos)
    client.publish(status, "offline", qos=1, retain=True).wait_for_publish(timeout=2)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
