"""Peer: paho-mqtt that counts what it gets and stores nothing. In: port, QoS. Out: the count whenever it is asked."""

import sys

import paho.mqtt.client as mqtt

count = 0


def on_message(*_):
    global count
    count += 1


port, qos = int(sys.argv[1]), int(sys.argv[2])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda client, *_: client.subscribe("bench/#", qos=qos)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_start()
for _ in sys.stdin:
    print(count, flush=True)
