"""Blocking client of the control API over its unix socket; the standard library is enough."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


class ControlError(Exception):
    """The daemon could not be asked, or said no.

    :ivar exit_code: what the command should exit with.
    """

    def __init__(self, reason: str, fix: str = "", exit_code: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.exit_code = exit_code


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
            raise ControlError(
                f"no daemon serves {self._path}", "start it with `streamhop daemon`, or name its --socket"
            ) from None
        except PermissionError:
            raise ControlError(f"{self._path}: permission denied", "run this as root") from None
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(
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

    def get(self, route: str) -> Any:
        """GET a JSON document.

        :raises ControlError:
        """
        with self._ask("GET", route) as response:
            return json.load(response)

    def change(self, method: str, route: str, body: Any = None) -> Any:
        """POST, PATCH or DELETE; returns the JSON that is answered.

        :raises ControlError:
        """
        with self._ask(method, route, body) as response:
            return json.load(response)

    def start_move(self, body: dict[str, Any]) -> str:
        """Start a move; returns its ID.

        :raises ControlError:
        """
        with self._ask("POST", "/v1/moves", body) as response:
            return str(json.load(response)["id"])

    def cancel_move(self, move: str) -> bool:
        """Ask for the end of a move; returns whether it was not too late for that.

        :raises ControlError:
        """
        with self._ask("DELETE", f"/v1/moves/{move}") as response:
            return bool(json.load(response)["cancelling"])

    def events(self, move: str) -> Iterator[dict[str, Any]]:
        """Yield a move's events until it ends.

        :raises ControlError: also when the daemon goes away before the end.
        """
        try:
            with self._ask("GET", f"/v1/moves/{move}/events") as response:
                while line := response.readline():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControlError(
                f"the daemon went away: {error}", "look at its log; `docker ps` on both hosts says where it runs"
            ) from error
