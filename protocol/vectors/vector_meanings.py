"""What frames mean, as JSON has it."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


def shown(value: Any) -> Any:
    """``value`` as JSON has it."""
    if isinstance(value, bytes | memoryview):
        return {"hex": value.hex()}
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return meaning(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


def meaning(body: Any, **more: Any) -> dict[str, Any]:
    """What a frame says: its name and its fields; fields that are absent on the wire are left out.

    So are those that two of the same meaning may differ in. What is still packed is shown unpacked.
    """
    names = [field.name.removeprefix("packed_") for field in dataclasses.fields(body) if field.compare]
    fields = {name: shown(getattr(body, name)) for name in names}
    return {"name": type(body).__name__, "fields": {k: v for k, v in fields.items() if v is not None}, **more}
