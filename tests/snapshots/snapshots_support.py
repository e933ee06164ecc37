"""Snapshots of JSON documents: which keys there are and of which type, one file a document.

What is written is kept until a person decides otherwise: run the tests with ``UPDATE_SNAPSHOTS=1`` and look at the
diff.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parent / "documents"

_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}


def shape(document: Any) -> Any:
    """A document with the kinds of its values in their place; lists are as their first item."""
    if isinstance(document, Mapping):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, Sequence) and not isinstance(document, str):
        return [shape(item) for item in document[:1]]
    return _NAMES[type(document)]


def check_snapshot(name: str, document: Any) -> None:
    """Compare a document's shape, order of keys included, with what is kept as ``name``."""
    found = json.dumps(shape(json.loads(json.dumps(document))), indent=2) + "\n"
    path = DOCUMENTS / f"{name}.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text(), f"the document {name} has changed, on which scripts rely"
