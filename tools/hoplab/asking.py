"""A program on a client host that asks a service without end, until it is told to stop and says what it measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from .errors import LabError
from .host import Host


class AskingClient:
    """The program: it says ``ready``, and after ``stop`` prints a JSON object. Leaving the context ends it without one.

    :param what: is asked, for a message.
    :param env: of the program, besides the usual.
    :param stop_s_max: how long its last answer may take.
    :raises LabError: it does not get through.
    """

    def __init__(
        self,
        host: Host,
        argv: Sequence[str],
        what: str,
        *,
        env: Mapping[str, str] | None = None,
        stop_s_max: float = 60.0,
    ) -> None:
        self._stop_s_max = stop_s_max
        self._process = host.popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.strip() != b"ready":
            self.__exit__(None, None, None)
            raise LabError(f"the client on {host.name} does not get through to {what}: {line!r}")

    def stop(self) -> dict[str, Any]:
        """End the requests after one more answer; what was measured.

        :raises LabError: nobody answers any more, or something answered nonsense.
        """
        try:
            out, _ = self._process.communicate(b"stop\n", timeout=self._stop_s_max)
        except subprocess.TimeoutExpired:
            raise LabError(f"the client has had no answer for {self._stop_s_max:.0f} s") from None
        if self._process.returncode != 0:
            raise LabError(f"the client ended with {self._process.returncode}; see its standard error")
        summary: dict[str, Any] = json.loads(out)
        return summary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
