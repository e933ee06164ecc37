"""What the target checks about a container before it takes anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamhop.engine.docker import EngineError, NotFound
from streamhop.handover.preflight import _network_objection


class FakeEngine:
    """Knows two networks, by name and by the beginning of their ID, as Docker does."""

    async def inspect_network(self, name: str) -> dict[str, Any]:
        if name == "broken":
            raise EngineError("Docker does not answer")
        if name in ("shop", "abc"):
            return {"Name": "shop", "Driver": "bridge"}
        if name == "h":
            return {"Name": "host", "Driver": "host"}
        raise NotFound(f"no network {name}")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("shop", None),
        ("abc", "has no network"),
        ("other", "has no network"),
        ("h", "the host's own"),
        ("broken", "does not answer"),
    ],
)
async def test_a_network_must_be_there_by_its_name(network: str, reason: str | None) -> None:
    host: Any = SimpleNamespace(engine=FakeEngine())
    objection = await _network_objection(host, network)
    assert (objection is None) if reason is None else (objection is not None and reason in objection.reason)
