"""Watch streams that are opened and not read, in the few frames of HTTP/2 (RFC 9113) that it takes. Some are read slowly.

In: the port of gRPC and how many. Out: open sockets, one for each stream; the server may send 65,535 bytes on each.
"""

import contextlib
import socket
import threading
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS = {":method": "POST", ":scheme": "http", ":path": "/akri_mqtt.monitoring.v1.Monitoring/Watch",
           ":authority": "bench", "te": "trailers", "content-type": "application/grpc"}
SETTINGS, DATA, HEADER, WINDOW_UPDATE = 4, 0, 1, 8
END_STREAM, END_HEADERS = 1, 4
# What a slow reader takes every time: some 80 messages a second.
SLOW_BYTES, SLOW_PAUSE = 4_096, 0.25


def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def block():
    """The headers as literals that are not indexed (RFC 7541, 6.2.2)."""
    text = b""
    for name, value in HEADERS.items():
        text += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return text


class Silent:
    """Open until its block ends."""

    def __init__(self, port, count, slow=0):
        self.sockets, self.over = [], threading.Event()
        # A request without fields: all devices, from now on.
        request = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADER, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, bytes(5))
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", port))
            stream.sendall(request)
            self.sockets.append(stream)
        self.slow = threading.Thread(target=self.read_slowly, args=(self.sockets[:slow],))
        self.slow.start()

    def read_slowly(self, streams):
        more = SLOW_BYTES.to_bytes(4, "big")
        while streams and not self.over.is_set():
            for stream in streams:
                with contextlib.suppress(BlockingIOError):
                    stream.recv(SLOW_BYTES, socket.MSG_DONTWAIT)
                stream.sendall(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, 1, more))
            time.sleep(SLOW_PAUSE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.slow.join()
        for stream in self.sockets:
            stream.close()
