#!/usr/bin/env python3
"""Asks both ports of a monitoring broker for its devices, with TLS that others wrote: OpenSSL below urllib, BoringSSL below
grpcio. Prints a line of JSON for each way to come: what HTTPS said and what gRPC said."""

import argparse
import json
import pathlib
import ssl
import sys
import urllib.error
import urllib.request

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "proto" / "proto"))
protos, services = grpc.protos_and_services("monitoring/v1/monitoring.proto")
TIMEOUT = 30


def https(options, token, certified):
    context = ssl.create_default_context(cafile=options.ca)
    if certified:
        context.load_cert_chain(options.certificate, options.key)
    request = urllib.request.Request(f"https://localhost:{options.http}/v1/devices")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
            return [answer.status, json.load(answer)["devices"][0]["id"]]
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)["title"]]


def over_grpc(options, token, certified):
    read = lambda name: pathlib.Path(name).read_bytes()
    own = (read(options.key), read(options.certificate)) if certified else (None, None)
    credentials = grpc.ssl_channel_credentials(read(options.ca), *own)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.secure_channel(f"localhost:{options.grpc}", credentials) as channel:
        monitoring = services.MonitoringStub(channel)
        try:
            page = monitoring.ListDevices(protos.ListDevicesRequest(), metadata=metadata, timeout=TIMEOUT)
            return ["OK", page.devices[0].id]
        except grpc.RpcError as error:
            return [error.code().name, error.details()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("http", "grpc", "ca", "certificate", "key", "token"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    for token in (None, options.token):
        for certified in (False, True):
            print(json.dumps([https(options, token, certified), over_grpc(options, token, certified)]), flush=True)


if __name__ == "__main__":
    main()
