"""What the target takes away again after a move that failed. Safe to repeat."""

from __future__ import annotations

import contextlib

from streamhop.engine.docker import Engine, NotFound

_NEVER = "0001-01-01T"
"""How Docker writes the time of what has not happened: Go's zero time."""


def provisional_name(move: bytes) -> str:
    """What the container of a move is called until its ID is in the journal: a name that no other move's has."""
    return f"streamhop-{move.hex()}"


async def remove_never_started(engine: Engine, name: str, runtime: str) -> None:
    """Remove the container ``name`` if it is one that was made for a move and never ran.

    :raises EngineError: Docker would not.
    """
    with contextlib.suppress(NotFound):
        found = await engine.inspect_container(name)
        if found["HostConfig"]["Runtime"] == runtime and found["State"]["Status"] == "created":
            await engine.remove(found["Id"], force=True, v=True)


async def has_started(engine: Engine, container: str) -> bool:
    """Whether the container runs here or ever ran, as Docker sees it.

    :raises NotFound: there is none.
    :raises EngineError: Docker does not say.
    """
    state = (await engine.inspect_container(container))["State"]
    return bool(state["Running"]) or not str(state["StartedAt"]).startswith(_NEVER)
