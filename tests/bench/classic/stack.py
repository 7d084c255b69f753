"""A classic stack in Python: paho-mqtt writes each message into Redis, FastAPI reads it there.

As a program: the port of MQTT, QoS and the port of Redis; it says `ready`, and its count whenever a line comes.
For uvicorn: `stack:app`, with REDIS_PORT.
"""

import json
import os
import sys

import paho.mqtt.client as mqtt
import redis
from fastapi import FastAPI
from redis import asyncio as redis_asyncio

# Messages kept of each device.
KEPT = 1_000

app = FastAPI()
store = redis_asyncio.Redis(port=int(os.environ.get("REDIS_PORT", "6379")))


@app.get("/devices/{device}/latest")
async def latest(device: str):
    return json.loads(await store.hget("latest", device))


@app.get("/devices/{device}/messages")
async def messages(device: str, limit: int = 100):
    return [json.loads(one) for one in await store.lrange(f"messages:{device}", 0, limit - 1)]


def subscribe(mqtt_port, qos, redis_port):
    database, count = redis.Redis(port=redis_port), 0

    def on_message(client, data, message):
        nonlocal count
        device = message.topic.split("/")[1]
        text = json.dumps({"topic": message.topic, "payload": json.loads(message.payload)})
        with database.pipeline(transaction=False) as pipeline:
            pipeline.hset("latest", device, text)
            pipeline.lpush(f"messages:{device}", text).ltrim(f"messages:{device}", 0, KEPT - 1)
            pipeline.publish("messages", text).execute()
        count += 1

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe("bench/#", qos=qos)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", mqtt_port)
    client.loop_start()
    for _ in sys.stdin:
        print(count, flush=True)


if __name__ == "__main__":
    subscribe(*(int(argument) for argument in sys.argv[1:4]))
