"""Fakes that the tests of the handover share: a Docker engine with one container, and the runtime's restores."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from streamhop.config import Config
from streamhop.engine.docker import Conflict, EngineError, NotFound
from streamhop.handover.host import Host, kept_content
from streamhop.handover.journal import Journal, Record
from streamhop.handover.states import Role, State
from streamhop.identity import PeerBook
from streamhop.peering import PeerDirectory

MOVE = b"m" * 16
POLICY = {"Name": "always", "MaximumRetryCount": 0}
NEVER, ONCE = "0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"


class FakeEngine:
    """One container, and what was done to it. Methods named in ``failing`` raise."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.image_id = "sha256:1"
        self.restart = "no"
        self.stopped_by_user = False
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.asked: list[str] = []
        self.health: dict[str, str] | None = None

    def _note(self, name: str, text: str) -> None:
        if name in self.failing:
            raise EngineError(f"{name} fails")
        self.calls.append(text)

    async def inspect_container(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if "inspect" in self.failing:
            raise EngineError("Docker does not answer")
        if self.status == "gone":
            raise NotFound(f"no container {name}")
        return {
            "Id": "c" * 64,
            "State": {
                "Running": self.status in ("running", "paused"),
                "Paused": self.status == "paused",
                "Status": self.status,
                "StartedAt": NEVER if self.status == "created" else ONCE,
                "Pid": 7,
                "Health": self.health,
                "ExitCode": 137 if self.status == "exited" else 0,
            },
            "HostConfig": {"Runtime": "streamhop", "RestartPolicy": {"Name": self.restart}},
        }

    async def inspect_image(self, reference: str) -> dict[str, Any]:
        return {"Id": self.image_id}

    async def pause(self, container: str) -> None:
        if self.status == "paused":
            raise Conflict("already paused")
        self._note("pause", "pause")
        self.status = "paused"

    async def unpause(self, container: str) -> None:
        self._note("unpause", "unpause")
        self.status = "running"

    async def update_restart_policy(self, container: str, policy: dict[str, Any]) -> None:
        self._note("restart", f"restart {policy['Name']}")
        self.restart = policy["Name"]

    async def was_asked_to_end(self, container: str, state: dict[str, Any]) -> bool:
        if "events" in self.failing:
            raise EngineError("events fails")
        return self.stopped_by_user

    async def start(self, container: str) -> None:
        self._note("start", "start")
        self.status = "running"

    async def version(self) -> dict[str, Any]:
        if "version" in self.failing:
            raise EngineError("Docker does not answer")
        return {}

    async def kill(self, container: str) -> None:
        self._note("kill", "kill")
        self.status = "exited"

    async def remove(self, container: str, *, force: bool, v: bool = False) -> None:
        self._note("remove", "remove")
        self.status = "gone"

    async def remove_image(self, image: str) -> None:
        self._note("rmi", f"rmi {image}")


class FakeRestores:
    """The runtime has ended every restore, unless ``busy``."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.busy = False
        self.let_go: set[str] = set()

    async def ended(self, container: str, seconds: float) -> bool:
        return not self.busy

    def was_let_go(self, container: str) -> bool:
        return container in self.let_go

    def forget(self, container: str) -> None:
        self.forgotten.append(container)
        self.let_go.discard(container)


def host_with(engine: FakeEngine, journal: Journal, tmp_path: Path) -> Host:
    """A host of fakes with a real journal and real directories."""
    config = Config(state_dir=tmp_path, run_dir=tmp_path / "run", name="here", plaintext=True)
    fakes: Any = engine, FakeRestores()
    peers = PeerDirectory(config, None, PeerBook(tmp_path / "peers"))
    return Host(config, fakes[0], journal, fakes[1], peers, kept_content(config))


def written(journal: Journal, role: Role, *states: State, **details: Any) -> Record:
    """The newest record after the journal went through ``states``, each with ``details``."""
    for state in states:
        journal.record(MOVE, role, 1, state, **details)
    record = journal.latest(MOVE, role)
    assert record is not None
    return record


def make_unwritable(journal: Journal, monkeypatch: pytest.MonkeyPatch, state: State) -> list[int]:
    """From now on the journal's disk is too full for a record of ``state``; returns the epochs of those refused."""
    record = journal.record
    refused: list[int] = []

    def full(move: bytes, role: Role, epoch: int, entered: State, **details: Any) -> None:
        if entered is state:
            refused.append(epoch)
            raise sqlite3.OperationalError("database or disk is full")
        record(move, role, epoch, entered, **details)

    monkeypatch.setattr(journal, "record", full)
    return refused
