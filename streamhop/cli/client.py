"""Blocking client of the control API over its unix socket; the standard library is enough."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote


class ControlError(Exception):
    """The daemon could not be asked, or said no.

    :ivar exit_code: what the command should exit with.
    """

    def __init__(self, reason: str, fix: str = "", exit_code: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.exit_code = exit_code


class DaemonGoneError(ControlError):
    """No daemon answers, or the one that did has ended: another one may answer soon."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


class ControlClient:
    """One daemon, by its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _ask(self, method: str, route: str, body: Any = None) -> Iterator[http.client.HTTPResponse]:
        with closing(_UnixConnection(self._path)) as connection:
            yield self._response(connection, method, route, body)

    def _response(self, connection: _UnixConnection, method: str, route: str, body: Any) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, route, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except FileNotFoundError:
            raise DaemonGoneError(
                f"no daemon serves {self._path}", "start it with `streamhop daemon`, or name its --socket"
            ) from None
        except PermissionError:
            raise ControlError(
                f"{self._path}: permission denied",
                "run this as root, or as a member of the group that control_group names",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise DaemonGoneError(
                f"the daemon at {self._path} does not answer: {error}", "is `streamhop daemon` running?"
            ) from error
        if response.status >= 400:
            self._raise_refusal(response)
        return response

    @staticmethod
    def _raise_refusal(response: http.client.HTTPResponse) -> None:
        text = response.read(64 * 1024)
        try:
            body = json.loads(text)
            raise ControlError(str(body["reason"]), str(body.get("fix", "")), int(body.get("exit_code", 1)))
        except (ValueError, KeyError, TypeError):
            raise ControlError(f"the daemon answered {response.status} {response.reason}") from None

    def _json(self, method: str, route: str, body: Any = None) -> Any:
        try:
            with self._ask(method, route, body) as response:
                return json.load(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DaemonGoneError(f"the daemon went away: {error}", "is `streamhop daemon` running?") from error

    def get(self, route: str) -> Any:
        """GET a JSON document.

        :raises ControlError:
        """
        return self._json("GET", route)

    def change(self, method: str, route: str, body: Any = None) -> Any:
        """POST, PATCH or DELETE; returns the JSON that is answered.

        :raises ControlError:
        """
        return self._json(method, route, body)

    def start_move(self, body: dict[str, Any]) -> str:
        """Start a move; returns its ID.

        :raises ControlError:
        """
        return str(self._json("POST", "/v1/moves", body)["id"])

    def cancel_move(self, move: str) -> bool:
        """Ask for the end of a move; returns whether it was not too late for that.

        :raises ControlError:
        """
        return bool(self._json("DELETE", f"/v1/moves/{move}")["cancelling"])

    def events(self, move: str) -> Iterator[dict[str, Any]]:
        """Yield a move's events until it ends.

        :raises ControlError: also when the daemon goes away before the end.
        """
        try:
            with self._ask("GET", f"/v1/moves/{quote(move, safe='')}/events") as response:
                while line := response.readline():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DaemonGoneError(
                f"the daemon went away: {error}",
                f"`streamhop wait {move[:8]}` says how the move ended once a daemon runs again",
            ) from error
