"""One device that speaks through paho-mqtt exactly what it is told.

In: --port, --client-id and a JSON object on --says: `will` and `birth`, lists of [topic, payload, retain], and
`data`, published every second. Out: a line once everything of `birth` has been taken by the server. SIGKILL is a crash.
"""

import argparse
import json
import os
import time

import paho.mqtt.client as mqtt

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--client-id", required=True)
parser.add_argument("--says", type=json.loads, required=True)
options = parser.parse_args()

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=options.client_id)
for topic, payload, retain in options.says.get("will", []):
    client.will_set(topic, payload, qos=1, retain=retain)
client.connect("127.0.0.1", options.port, keepalive=15)
client.loop_start()
for topic, payload, retain in options.says.get("birth", []):
    client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)
print("born", flush=True)
parent = os.getppid()
while os.getppid() == parent:
    for topic, payload, retain in options.says.get("data", []):
        client.publish(topic, payload, qos=0, retain=retain)
    time.sleep(1)
