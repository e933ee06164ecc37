"""What the target takes away again after a move that failed. Used by a move and by recovery; safe to repeat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from streamhop.engine.docker import Conflict, Engine, NotFound


async def remove_remains(engine: Engine, container: str | None, images: Iterable[str]) -> None:
    """Remove a container that never ran here, and the names of the image that was brought for it.

    An image that another container uses by now stays.

    :raises EngineError: Docker would not.
    """
    if container is not None:
        with contextlib.suppress(NotFound):
            await engine.remove(container, force=True)
    for image in images:
        with contextlib.suppress(NotFound, Conflict):
            await engine.remove_image(image)


async def runs(engine: Engine, container: str) -> bool:
    """Whether the container runs here, as Docker sees it."""
    try:
        state = (await engine.inspect_container(container))["State"]
    except NotFound:
        return False
    return bool(state["Running"])
