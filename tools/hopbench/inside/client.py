"""The client of the bench: :mod:`hoplab.probe` with a pace of its own, kept records, and the time a request takes.

Runs in a client host::

    python3 -m hopbench.inside.client watch http edge-a:8080 edge-b:8080 --path /alive --pause 0.01
    python3 -m hopbench.inside.client watch redis-write edge-a:6379 edge-b:6379 --records 300000 --per-s 1024
    python3 -m hopbench.inside.client fill edge-a:6379 --records 300000

``watch`` says ``ready`` when the first request was answered; a line on its standard input stops it, after one more
answer, so that no gap is cut off. Then it prints what :mod:`hoplab.probe` prints and ``request_s``, the median time
between two answers.
"""

from __future__ import annotations

import argparse
import json
import select
import statistics
import sys
import time

from hoplab.probe import SERVICES, Address, Connection, Http, Postgres, Probe, Redis, dataset_value, redis_command

RECORD_PARTS = 10
"""Records are so many of the lab's data set, about 1 kB together: real structure, about a fifth of it after zstd."""

WRITES_PER_REQUEST = 16
FILL_BATCH = 200
TOKEN_DIGITS = 16
TOKEN_OFFSET = 32
"""Where in a record the client writes; a token is short enough to touch one page, two at the most."""

Service = Redis | Http | Postgres


def record_key(number: int) -> bytes:
    """Name of a record."""
    return b"rec:%08d" % number


def record(number: int) -> bytes:
    """Its first content."""
    return b"".join(dataset_value(number * RECORD_PARTS + part) for part in range(RECORD_PARTS))


def token(request: int) -> bytes:
    """What a request writes into each of its records."""
    return b"%0*x" % (TOKEN_DIGITS, request)


def touched(request: int, records: int) -> list[int]:
    """Which records a request writes: spread over all of them, none twice before all had their turn.

    Steps of a large prime visit every residue of a number that it does not divide.
    """
    first = request * WRITES_PER_REQUEST
    return [(first + turn) * 2_654_435_761 % records for turn in range(WRITES_PER_REQUEST)]


def http_at(path: str) -> type[Http]:
    """A service that is asked for one path."""

    class AtPath(Http):
        def write(self, number: int) -> None:  # noqa: ARG002 - nothing is kept
            self.get(path)

    return AtPath


def redis_records(records: int) -> type[Redis]:
    """A redis whose records are written in place, each write touching one page of it."""
    newest: dict[int, int] = {}

    class Records(Redis):
        def __init__(self, connection: Connection) -> None:
            super().__init__(connection)
            self.command(b"SELECT", b"0")

        def write(self, number: int) -> None:
            offset, value = b"%d" % TOKEN_OFFSET, token(number)
            chosen = touched(number, records)
            self._connection.send(
                b"".join(redis_command(b"SETRANGE", record_key(each), offset, value) for each in chosen)
            )
            for each in chosen:
                self.answer()
                newest[each] = number

        def missing(self, numbers: range) -> int:
            """Writes of these requests that nothing later replaced, and that are not there."""
            last = [(each, number) for number in numbers for each in touched(number, records)]
            last = [(each, number) for each, number in last if newest.get(each) == number]
            first, end = b"%d" % TOKEN_OFFSET, b"%d" % (TOKEN_OFFSET + TOKEN_DIGITS - 1)
            self._connection.send(
                b"".join(redis_command(b"GETRANGE", record_key(each), first, end) for each, _ in last)
            )
            return sum(self.answer() != token(number) for _, number in last)

    return Records


class Watch(Probe):
    """A probe that keeps every time between two answers.

    :param period_s: least time from one request to the next; 0: the pause alone.
    """

    def __init__(self, service: type[Service], addresses: list[Address], pause_s: float, period_s: float) -> None:
        super().__init__(service, addresses, pause_s)
        self._period_s = period_s
        self._due = time.monotonic()
        self._answers_wanted: int | None = None
        self._times: list[float] = []

    def _answered(self, connection: Connection) -> None:
        before = self._last_answer
        super()._answered(connection)
        if before is not None and self._last_answer is not None:
            self._times.append(self._last_answer - before)

    def _told_to_stop(self) -> bool:
        if self._answers_wanted is not None:
            return self.acknowledged >= self._answers_wanted
        now = time.monotonic()
        # After an outage the pace goes on; what was missed is not made up for.
        self._due = max(self._due + self._period_s, now - self._period_s)
        pause_s = max(self._pause_s, self._due - now)
        if select.select([sys.stdin], [], [], pause_s)[0]:
            self._answers_wanted = self.acknowledged + 1
        return False

    def summary(self) -> dict[str, object]:
        """As the probe's, and the median."""
        median = statistics.median(self._times) if self._times else 0.0
        return {**super().summary(), "request_s": round(median, 5)}


def fill(address: Address, records: int) -> dict[str, object]:
    """Write all records once."""
    connection = Connection(address)
    redis = Redis(connection)
    redis.command(b"SELECT", b"0")
    for start in range(0, records, FILL_BATCH):
        numbers = range(start, min(start + FILL_BATCH, records))
        words = [word for number in numbers for word in (record_key(number), record(number))]
        redis.command(b"MSET", *words)
    connection.close()
    return {"records": records}


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Entry of the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    watching = commands.add_parser("watch")
    watching.add_argument("kind", choices=["http", "redis-write", "counter", "postgres"])
    watching.add_argument("addresses", nargs="+", type=_address)
    watching.add_argument("--path", default="/")
    watching.add_argument("--records", type=int, default=1)
    watching.add_argument("--pause", type=float, default=0.002, help="seconds before each request")
    watching.add_argument("--per-s", type=float, default=0.0, help="writes a second (redis-write)")
    filling = commands.add_parser("fill")
    filling.add_argument("address", type=_address)
    filling.add_argument("--records", type=int, required=True)
    asked = parser.parse_args()
    if asked.command == "fill":
        result = fill(asked.address, asked.records)
    else:
        period_s = WRITES_PER_REQUEST / asked.per_s if asked.per_s else 0.0
        kinds = {**SERVICES, "http": http_at(asked.path), "redis-write": redis_records(asked.records)}
        pause_s = 0.0 if asked.per_s else asked.pause
        watch = Watch(kinds[asked.kind], asked.addresses, pause_s, period_s)
        watch.run()
        result = watch.summary()
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
