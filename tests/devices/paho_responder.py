"""A device that speaks through paho-mqtt, takes commands and answers those that ask for it.

In: --port --topic --version; out: {"ready": true} once it is subscribed, then one JSON line per command. On MQTT 5 a
command with a response topic is answered there with its correlation data: {"echo": <its payload>}. A JSON object as
payload can ask for something else: {"delay": <seconds>} for a late answer, {"silent": true} for none, {"wrong": true}
for one with other correlation data first. It ends when its parent does.
"""

import argparse
import base64
import json
import os
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def tell(**line):
    print(json.dumps(line), flush=True)


def answer(client, topic, correlation, payload):
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = correlation
    properties.ContentType = "application/json"
    client.publish(topic, json.dumps({"echo": payload}), qos=1, properties=properties)


def on_message(client, _userdata, message):
    properties = message.properties
    topic = getattr(properties, "ResponseTopic", None)
    correlation = getattr(properties, "CorrelationData", None)
    tell(
        topic=message.topic,
        payload=base64.b64encode(message.payload).decode(),
        qos=message.qos,
        retained=message.retain,
        content_type=getattr(properties, "ContentType", None),
        user=getattr(properties, "UserProperty", None),
        response_topic=topic,
        correlation_bytes=len(correlation or b""),
    )
    if topic is None:
        return
    text = message.payload.decode(errors="replace")
    try:
        asked = json.loads(text)
    except ValueError:
        asked = None
    asked = asked if isinstance(asked, dict) else {}
    if asked.get("silent"):
        return
    if asked.get("wrong"):
        answer(client, topic, b"not yours", text)
    threading.Timer(asked.get("delay", 0), answer, (client, topic, correlation, text)).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--version", type=int, choices=(4, 5), default=5)
    options = parser.parse_args()
    version = mqtt.MQTTv5 if options.version == 5 else mqtt.MQTTv311
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="responder", protocol=version)
    client.on_connect = lambda c, *_: c.subscribe(options.topic, qos=2)
    client.on_subscribe = lambda *_: tell(ready=True)
    client.on_message = on_message
    client.reconnect_delay_set(1, 2)
    client.connect("127.0.0.1", options.port)
    client.loop_start()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)


main()
