"""A directory to write in, beside one that must not change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory for one input. Raises if anything beside it was changed."""
    outer = Path(tempfile.mkdtemp(prefix="streamhop-fuzz-"))
    try:
        canary = outer / "canary"
        (canary / "directory").mkdir(parents=True)
        (canary / "file").write_bytes(b"sings")
        (outer / "link").symlink_to("canary/file")
        before = _look(canary), sorted(outer.iterdir())
        inner = outer / "inner"
        inner.mkdir()
        yield inner
        shutil.rmtree(inner)
        assert (_look(canary), sorted(outer.iterdir())) == before, "something outside the directory changed"
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _look(directory: Path) -> list[object]:
    found: list[object] = []
    for path in sorted((directory, *directory.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path), status.st_mode, status.st_uid, status.st_mtime_ns, status.st_nlink, content))
    return found
