"""A client that never stops asking: measures from outside what a service's users see while it moves.

Runs on a client host, so it is one file that needs the standard library alone::

    python3 probe.py redis   edge-a:6379 edge-b:6379
    python3 probe.py http    edge-a:80 edge-b:80
    python3 probe.py counter edge-a:8080 edge-b:8080
    python3 probe.py postgres edge-a:5432 edge-b:5432

It makes one request after the other to whichever address answers. It writes ``ready`` when the first one was answered;
a line on its standard input (or its end) stops it. Then it asks the service for everything that was acknowledged, and
prints one JSON object: ``acknowledged``, ``lost`` (acknowledged writes that are not there), ``longest_gap_s`` (longest
time between two answers), ``gap_began_s`` and ``gap_ended_s`` (since the start), ``reconnects``, ``answered_by``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

CONNECT_TIMEOUT_S = 0.2
"""An address that does not answer this soon is left for the other one."""

ANSWER_TIMEOUT_S = 10.0
"""A frozen service answers late; this is how patient a client is before it tries elsewhere."""

VERIFY_BATCH = 500

DATASET_BATCH = 1000

Address = tuple[str, int]


class ServiceError(Exception):
    """The service answered, but not what a healthy one answers."""


class Connection:
    """A socket with buffered reads; anything wrong with it is an ``OSError``."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._socket = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        data = self._file.read(count)
        if len(data) < count:
            raise ConnectionResetError("closed in the middle of an answer")
        return data

    def line(self) -> bytes:
        """One line, without its end."""
        data = self._file.readline()
        if not data.endswith(b"\n"):
            raise ConnectionResetError("closed in the middle of an answer")
        return data.rstrip(b"\r\n")

    def close(self) -> None:
        """Close the socket."""
        self._file.close()
        self._socket.close()


class Redis:
    """Writes ``w:N`` = N in database 1, leaving database 0 alone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.command(b"SELECT", b"1")

    def command(self, *words: bytes) -> object:
        """Send one command; its answer."""
        self._connection.send(redis_command(*words))
        return self.answer()

    def answer(self) -> object:
        """Read one answer."""
        line = self._connection.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._connection.read(int(rest) + 2)[:-2]
        raise ServiceError(f"redis says {line!r}")

    def write(self, number: int) -> None:
        """One acknowledged write."""
        if self.command(b"SET", b"w:%d" % number, b"%d" % number) != b"OK":
            raise ServiceError("SET was not acknowledged")

    def missing(self, numbers: range) -> int:
        """How many of the acknowledged writes are not there."""
        self._connection.send(b"".join(redis_command(b"GET", b"w:%d" % number) for number in numbers))
        return sum(self.answer() != b"%d" % number for number in numbers)


def redis_command(*words: bytes) -> bytes:
    """A command in redis's protocol."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Http:
    """Asks for ``/``; an answer of 200 is an acknowledgement, and nothing is kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, number: int) -> None:
        """One request on the kept connection."""
        self.get(f"/?n={number}")

    def get(self, path: str) -> bytes:
        """The body at ``path``."""
        self._connection.send(f"GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n".encode())
        status = self._connection.line()
        if b" 200 " not in status + b" ":
            raise ServiceError(f"the service says {status!r}")
        length = 0
        while header := self._connection.line():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return self._connection.read(length)

    def missing(self, numbers: range) -> int:  # noqa: ARG002 - an HTTP service keeps nothing that could be missing
        """Nothing is kept."""
        return 0


class Counter(Http):
    """A service that counts up at ``/increment`` and tells its counter at ``/``."""

    def write(self, number: int) -> None:  # noqa: ARG002 - the service counts
        """Count up by one."""
        self.get("/increment")

    def missing(self, numbers: range) -> int:
        """How far the counter is behind what was acknowledged."""
        return max(0, min(len(numbers), numbers[-1] + 1 - int(json.loads(self.get("/"))["counter"])))


class Postgres:
    """Inserts N into a table, over the simple query protocol with trust authentication."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        parameters = b"user\0postgres\0database\0postgres\0\0"
        connection.send(struct.pack("!II", 8 + len(parameters), 196608) + parameters)
        self._until_ready()
        self.query("CREATE TABLE IF NOT EXISTS probe (n bigint PRIMARY KEY)")

    def query(self, text: str) -> list[bytes]:
        """Run one statement; the first column of each row."""
        body = text.encode() + b"\0"
        self._connection.send(b"Q" + struct.pack("!I", 4 + len(body)) + body)
        return self._until_ready()

    def _until_ready(self) -> list[bytes]:
        rows: list[bytes] = []
        failure: bytes | None = None
        while True:
            kind, length = struct.unpack("!cI", self._connection.read(5))
            body = self._connection.read(length - 4)
            if kind == b"Z":
                if failure is not None:
                    raise ServiceError(f"postgres says {failure!r}")
                return rows
            if kind == b"E":
                failure = body
                if b"SFATAL" in body:
                    raise ConnectionRefusedError(f"postgres says {body!r}")
            elif kind == b"D":
                size = struct.unpack("!i", body[2:6])[0]
                rows.append(body[6 : 6 + size])

    def write(self, number: int) -> None:
        """One committed insert. After a broken connection it is not known whether the last one was committed."""
        self.query(f"INSERT INTO probe VALUES ({number}) ON CONFLICT DO NOTHING")  # noqa: S608 - a number

    def missing(self, numbers: range) -> int:
        """How many of the acknowledged rows are not there."""
        rows = self.query(f"SELECT count(*) FROM probe WHERE n BETWEEN {numbers[0]} AND {numbers[-1]}")  # noqa: S608
        return len(numbers) - int(rows[0])


SERVICES: dict[str, type[Redis | Http | Postgres]] = {
    "redis": Redis,
    "http": Http,
    "counter": Counter,
    "postgres": Postgres,
}

Service = Redis | Http | Postgres


class Probe:
    """One request after the other, with the time of each answer."""

    def __init__(self, service: type[Service], addresses: list[Address], pause_s: float) -> None:
        self._service = service
        self._addresses = addresses
        self._pause_s = pause_s
        self._began = time.monotonic()
        self._last_answer: float | None = None
        self._gap = (0.0, 0.0)
        self.acknowledged = 0
        self.connects = 0
        self.answered_by: list[str] = []

    def _connected(self) -> Iterator[tuple[Connection, Service]]:
        """Yield connections to whichever address answers, for ever."""
        turn = 0
        while True:
            address = self._addresses[turn % len(self._addresses)]
            connection = None
            try:
                connection = Connection(address)
                yield connection, self._service(connection)
            except OSError:
                time.sleep(0.005)  # pace of the attempts: refusals come back at once
            finally:
                if connection is not None:
                    connection.close()
            turn += 1

    def run(self) -> None:
        """Ask until told to stop."""
        for connection, service in self._connected():
            self.connects += 1
            try:
                while not self._told_to_stop():
                    service.write(self.acknowledged)
                    self._answered(connection)
                return
            except OSError:
                continue

    def _answered(self, connection: Connection) -> None:
        now = time.monotonic()
        if self._last_answer is None:
            print("ready", flush=True)
        elif now - self._last_answer > self._gap[1] - self._gap[0]:
            self._gap = (self._last_answer, now)
        self._last_answer = now
        self.acknowledged += 1
        name = connection.address[0]
        if self.answered_by[-1:] != [name]:
            self.answered_by.append(name)

    def _told_to_stop(self) -> bool:
        return bool(select.select([sys.stdin], [], [], self._pause_s)[0])

    def lost(self) -> int:
        """Ask for everything acknowledged; how many of it is missing."""
        for _, service in self._connected():
            try:
                return sum(
                    service.missing(range(start, min(start + VERIFY_BATCH, self.acknowledged)))
                    for start in range(0, self.acknowledged, VERIFY_BATCH)
                )
            except OSError:
                continue
        raise AssertionError("unreachable")

    def summary(self) -> dict[str, object]:
        """What was measured."""
        began, ended = self._gap
        return {
            "acknowledged": self.acknowledged,
            "lost": self.lost(),
            "longest_gap_s": round(ended - began, 4),
            "gap_began_s": round(began - self._began, 4),
            "gap_ended_s": round(ended - self._began, 4),
            "reconnects": self.connects - 1,
            "answered_by": self.answered_by,
        }


def dataset_value(number: int) -> bytes:
    """A record as applications keep them: structure around values that do not repeat."""
    noise = hashlib.blake2b(b"%d" % number, digest_size=8).hexdigest()
    city = ("Oslo", "Lima", "Kyiv", "Bonn", "Rome", "Doha", "Baku", "Riga")[number * 7919 % 8]
    visits = number * 31 % 9973
    return f'{{"id":{number:08d},"city":"{city}","token":"{noise}","visits":{visits:04d},"plan":"standard"}}'.encode()


def fill(address: Address, count: int) -> dict[str, object]:
    """Write ``count`` keys into database 0 of a redis."""
    connection = Connection(address)
    redis = Redis(connection)
    redis.command(b"SELECT", b"0")
    for start in range(0, count, DATASET_BATCH):
        numbers = range(start, min(start + DATASET_BATCH, count))
        words = [word for number in numbers for word in (b"key:%08d" % number, dataset_value(number))]
        if redis.command(b"MSET", *words) != b"OK":
            raise ServiceError("MSET was not acknowledged")
    connection.close()
    return {"keys": count}


def digest(address: Address, count: int) -> dict[str, object]:
    """The number of keys in database 0 of a redis, and a digest over the values of the first ``count``."""
    connection = Connection(address)
    redis = Redis(connection)
    redis.command(b"SELECT", b"0")
    keys = redis.command(b"DBSIZE")
    hasher = hashlib.blake2b()
    for start in range(0, count, DATASET_BATCH):
        numbers = range(start, min(start + DATASET_BATCH, count))
        connection.send(redis_command(b"MGET", *(b"key:%08d" % number for number in numbers)))
        if connection.line() != b"*%d" % len(numbers):
            raise ServiceError("MGET was answered with something else")
        for _ in numbers:
            value = redis.answer()
            hasher.update(value if isinstance(value, bytes) else b"missing")
    connection.close()
    return {"keys": keys, "digest": hasher.hexdigest()}


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("service", choices=[*SERVICES, "fill", "digest"])
    parser.add_argument("addresses", nargs="+", type=_address, metavar="HOST:PORT")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys to fill in or to digest (redis)")
    parser.add_argument("--pause", type=float, default=0.002, metavar="S", help="before each request")
    arguments = parser.parse_args()
    if arguments.service == "fill":
        result = fill(arguments.addresses[0], arguments.keys)
    elif arguments.service == "digest":
        result = digest(arguments.addresses[0], arguments.keys)
    else:
        probe = Probe(SERVICES[arguments.service], arguments.addresses, arguments.pause)
        probe.run()
        result = probe.summary()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
