"""The client of a run: :mod:`hopbench.inside.client` on the client host, and for postgres pgbench beside it."""

from __future__ import annotations

import os
import signal
from types import TracebackType
from typing import Self

from hoplab import Host
from hoplab.asking import AskingClient
from hoplab.processes import wait_for

from .deployed import ENVIRONMENT, program

STOP_S_MAX = 180.0
"""The last answer may be a whole cold start away."""


class Watching(AskingClient):
    """A client that asks without end.

    :raises LabError: it does not get through.
    """

    def __init__(self, host: Host, kind: str, addresses: list[str], *options: str) -> None:
        command = program("client", "watch", kind, *addresses, *options)
        super().__init__(host, command, kind, env=ENVIRONMENT, stop_s_max=STOP_S_MAX)


MAKE_S_MAX = 120.0

_PGBENCH = """\
while :; do
    for host in "$@"; do
        "$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/pgbench" --host "$host" --username postgres --no-vacuum \
            --client 4 --rate 100 --time 600 postgres
        sleep 0.1
    done
done >/dev/null 2>&1
"""


class Pgbench:
    """pgbench against whichever host answers: 100 transactions a second over four connections, begun again if broken.

    :raises LabError: the tables cannot be made.
    """

    def __init__(self, client: Host, hosts: list[str], scale: int) -> None:
        make = '"$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/pgbench" -i -q -s "$2" -h "$1" -U postgres postgres'

        def made() -> bool:
            # A server that listens may still refuse for a while: it is starting up.
            command = ["sh", "-c", make, "sh", hosts[0], str(scale)]
            return client.exec(command, check=False, timeout=MAKE_S_MAX).returncode == 0

        wait_for(made, "pgbench has its tables", MAKE_S_MAX, 0.2)
        self._process = client.popen(["sh", "-c", _PGBENCH, "sh", *hosts], start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
