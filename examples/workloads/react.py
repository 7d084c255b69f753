#!/usr/bin/env python3
"""Follows the readings of a monitoring broker over gRPC, and sends a command when one is too high.

    pip install grpcio-tools
    react.py --reading /temperature --above 30 --command 'robots/{device}/cmd' --payload slow

The command needs a monitoring broker with --allow-publish 'robots/+/cmd'. Goes on where it was when the stream breaks.
"""

import argparse
import pathlib
import sys
import time

import grpc

# The client is generated from the contract as this starts.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "proto" / "proto"))
protos, services = grpc.protos_and_services("monitoring/v1/monitoring.proto")


def number(reading):
    """The value if it is a number."""
    kind = reading.value.WhichOneof("kind")
    return getattr(reading.value, kind) if kind in ("double_value", "int_value", "uint_value") else None


def send(monitoring, options, device: str) -> None:
    topic = options.command.replace("{device}", device.split("/", 1)[1])
    request = protos.PublishRequest(device_id=device, topic=topic, payload=options.payload.encode(), qos=1)
    try:
        monitoring.Publish(request, timeout=10)
        print(f"sent {options.payload!r} to {topic}", flush=True)
    except grpc.RpcError as error:
        print(f"not sent to {topic}: {error.code().name}: {error.details()}", flush=True)


def follow(monitoring, options, seen: dict) -> None:
    request = protos.WatchRequest(cursor=seen["cursor"]) if "cursor" in seen else protos.WatchRequest()
    for answer in monitoring.Watch(request):
        if answer.WhichOneof("event") != "message":
            print(answer.WhichOneof("event"), flush=True)
            continue
        message = answer.message
        for reading in message.readings:
            value = number(reading)
            print(f"{message.device_id} {message.topic} {reading.name or 'value'} = {value} {reading.unit}".rstrip(), flush=True)
            if reading.name != options.reading or value is None:
                continue
            too_high = value > options.above
            # Once, until it was low again.
            if too_high and message.device_id not in seen["high"]:
                send(monitoring, options, message.device_id)
            (seen["high"].add if too_high else seen["high"].discard)(message.device_id)
        seen["cursor"] = message.cursor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default="127.0.0.1:50051", help="where the gRPC port is")
    parser.add_argument("--reading", default="/temperature", help="name of the reading that is watched")
    parser.add_argument("--above", type=float, default=30.0, help="values above this are too high")
    parser.add_argument("--command", default="robots/{device}/cmd", help="topic of the command")
    parser.add_argument("--payload", default="slow", help="what is sent")
    options = parser.parse_args()
    monitoring = services.MonitoringStub(grpc.insecure_channel(options.address))
    seen = {"high": set()}
    while True:
        try:
            follow(monitoring, options, seen)
        except grpc.RpcError as error:
            print(f"lost the stream ({error.details()}), trying again", file=sys.stderr)
        time.sleep(1)


if __name__ == "__main__":
    main()
