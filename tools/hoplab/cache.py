"""What takes long to make and is made once: directories named by a hash of their recipe."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEY_DIGITS = 16


def recipe_key(recipe: Any) -> str:
    """Short hash of everything that decides what a recipe makes; ``recipe`` is plain JSON data."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


class Cache:
    """Entries appear whole or not at all, and are made by one program at a time."""

    def __init__(self, directory: Path, report: Callable[[str], None]) -> None:
        """:param report: told what is being made."""
        self._directory = directory
        self._report = report

    def get(self, kind: str, key: str, make: Callable[[Path], None], description: str) -> Path:
        """The entry of ``kind`` and ``key``; made by ``make`` in a directory given to it, if it is not there.

        Another program that makes the same entry is waited for.
        """
        path = self._directory / f"{kind}-{key}"
        if path.is_dir():
            return path
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / f".{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir():
                return path
            # Whoever left such a directory is dead: we hold the lock.
            for stale in self._directory.glob(f".making-{kind}-*"):
                shutil.rmtree(stale)
            self._report(f"making {description}")
            making = self._directory / f".making-{kind}-{key}"
            making.mkdir()
            try:
                make(making)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
            making.rename(path)
        return path
