#!/usr/bin/env python3
"""Prints each device of a monitoring broker with its presence and its latest readings."""

import argparse
import json
import urllib.parse
import urllib.request


def get(base: str, path: str) -> dict:
    with urllib.request.urlopen(base + path, timeout=10) as answer:
        return json.load(answer)


def devices(base: str):
    """All devices, page by page."""
    token = ""
    while True:
        page = get(base, "/v1/devices?" + urllib.parse.urlencode({"page_token": token} if token else {}))
        yield from page["devices"]
        token = page.get("next_page_token")
        if not token:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="http://127.0.0.1:8080", help="where the HTTP port is")
    base = parser.parse_args().base.rstrip("/")
    for device in devices(base):
        presence = device["presence"]
        print(f"{device['id']}: {presence['state']} ({presence['reason']})")
        path = f"/v1/devices/{urllib.parse.quote(device['id'], safe='')}/latest"
        for message in get(base, path)["messages"]:
            age = message["age_ms"] / 1000
            for reading in message.get("readings", []):
                name = reading["name"] or "value"
                print(f"  {message['topic']} {name} = {reading['value']} ({age:.1f} s old)")


if __name__ == "__main__":
    main()
