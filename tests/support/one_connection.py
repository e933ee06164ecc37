"""Asks a service over one connection, many requests ahead, until it is told to stop; runs on a client host.

    one_connection.py redis|http ADDRESS PORT

It says ``ready`` after the first answer. Any answer out of turn, any error and any end of the connection ends it with 1
and a word on standard error. After ``stop`` on its input it takes the answers that are under way, and prints a JSON
object: ``answers``, ``longest_gap_s``. Standard library only.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

AHEAD = 64
RECV_BYTES = 65536

REQUESTS = {
    "redis": b"INCR counter\r\n",
    "http": b"GET /worker HTTP/1.1\r\nHost: web\r\n\r\n",
}


class Answers:
    """Cuts what comes into answers and checks each."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._data = b""
        self._last = 0
        self.count = 0

    def take(self, data: bytes) -> None:
        self._data += data
        while self._redis() if self._kind == "redis" else self._http():
            self.count += 1

    def _redis(self) -> bool:
        line, end, rest = self._data.partition(b"\r\n")
        if not end:
            return False
        if line != b":%d" % (self._last + 1):
            raise ValueError(f"{line!r} after {self._last}")
        self._last += 1
        self._data = rest
        return True

    def _http(self) -> bool:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return False
        status, *fields = head.split(b"\r\n")
        if status != b"HTTP/1.1 200 OK":
            raise ValueError(repr(status))
        named = dict(field.lower().split(b": ", 1) for field in fields)
        length = int(named[b"content-length"])
        if len(rest) < length:
            return False
        if not rest[:length].strip().isdigit():
            raise ValueError(repr(rest[:length]))
        self._data = rest[length:]
        return True


def main() -> None:
    kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    answers = Answers(kind)
    asked, longest_s, stopping, ready = 0, 0.0, False, False
    with socket.create_connection((address, port), timeout=10) as connection:
        last = time.monotonic()
        while not stopping or answers.count < asked:
            if not stopping and asked - answers.count < AHEAD:
                more = AHEAD - (asked - answers.count)
                connection.sendall(REQUESTS[kind] * more)
                asked += more
            readable, _, _ = select.select([connection, sys.stdin], [], [], 60)
            if not readable:
                raise TimeoutError("no answer for 60 s")
            if sys.stdin in readable:
                stopping = True
                sys.stdin.readline()
            if connection not in readable:
                continue
            data = connection.recv(RECV_BYTES)
            if not data:
                raise ConnectionError("the connection was closed")
            answers.take(data)
            now = time.monotonic()
            longest_s, last = max(longest_s, now - last), now
            if not ready and answers.count:
                ready = True
                print("ready", flush=True)  # noqa: T201 - what it is for
    print(json.dumps({"answers": answers.count, "asked": asked, "longest_gap_s": longest_s}))  # noqa: T201 - as above


if __name__ == "__main__":
    main()
