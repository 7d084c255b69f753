"""Peer: paho-mqtt that keeps the last payload of each topic and when it came. In: port. Out: how many topics there are."""

import sys
import time

import paho.mqtt.client as mqtt

table = {}


def on_message(client, userdata, message):
    table[message.topic] = (time.monotonic(), message.payload)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda client, *_: client.subscribe("scale/#")
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
for _ in sys.stdin:
    print(len(table), flush=True)
