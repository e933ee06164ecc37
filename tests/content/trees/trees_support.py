"""Trees for tests: everything about one as data, and one round from a source to a target."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3
from hypothesis import strategies as st

from streamhop.content.trees import TreeApplier, TreeScanner

QUOTA_BYTES = 1 << 30


def snapshot(
    root: Path, *, xattr_prefixes: tuple[str, ...] = ("user.", "security.cap", "system.posix")
) -> dict[str, Any]:
    """Every attribute of every entry by path; names of one file have equal ``links``."""
    found: dict[str, Any] = {}
    names_of: dict[tuple[int, int], list[str]] = {}
    for directory, directories, files in os.walk(root):
        for path in [Path(directory), *(Path(directory, name) for name in [*directories, *files])]:
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            name = str(path.relative_to(root))
            found[name] = {
                "kind": kind,
                "mode": oct(stat.S_IMODE(status.st_mode)),
                "owner": (status.st_uid, status.st_gid),
                "mtime_ns": status.st_mtime_ns,
                "rdev": status.st_rdev,
                "content": content_of(path, kind),
                "xattrs": {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                    if key.startswith(xattr_prefixes)
                },
            }
            if kind != stat.S_IFDIR:
                names_of.setdefault((status.st_dev, status.st_ino), []).append(name)
    for names in names_of.values():
        for name in names:
            found[name]["links"] = sorted(set(names))
    return found


def content_of(path: Path, kind: int) -> object:
    if kind == stat.S_IFREG:
        return path.stat().st_size, blake3(path.read_bytes()).hexdigest()
    return path.readlink() if kind == stat.S_IFLNK else None


def apply_round(scanner: TreeScanner, target: Path, **options: Any) -> int:
    """Scan, send and apply; returns the bytes sent."""
    changes = scanner.scan(options.pop("must_check", frozenset()))
    applier = TreeApplier(target, allow_devices=True, quota_bytes=QUOTA_BYTES)
    sent = 0
    for chunk in changes.chunks():
        assert 0 < len(chunk) <= 256 * 1024
        sent += len(chunk)
        applier.feed(chunk)
    applier.finish()
    assert applier.digest == changes.digest
    return sent


_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _PATHS, st.integers(0, 200_000)),
        st.tuples(st.sampled_from(["mkdir", "remove", "symlink", "chmod", "fifo"]), _PATHS, st.just(0)),
        st.tuples(st.sampled_from(["rename", "link"]), _PATHS, _PATHS),
        st.tuples(st.just("round"), st.just(""), st.just(0)),
    ),
    max_size=40,
)
"""Changes to a small tree, many of them to the same few names, and the rounds between."""


def _do_step(root: Path, what: str, path: Path, argument: int | str, dice: random.Random) -> None:
    match what:
        case "write":
            with path.open("r+b" if path.is_file() else "wb") as file:
                file.seek(int(argument))
                file.write(dice.randbytes(dice.randrange(1, 70_000)))
        case "mkdir":
            path.mkdir()
        case "remove" if path.is_dir() and not path.is_symlink():
            path.rmdir()
        case "remove":
            path.unlink()
        case "symlink":
            path.symlink_to("a")
        case "chmod":
            path.chmod(dice.randrange(0o1000), follow_symlinks=True)
        case "fifo":
            os.mkfifo(path)
        case "rename":
            path.rename(root / str(argument))
        case "link":
            os.link(path, root / str(argument), follow_symlinks=False)


def rounds(root: Path, steps: list[tuple[str, str, int]], seed: int) -> Iterator[None]:
    """Do the steps below ``root``; yields where a round is due, and at the end."""
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    for what, path, argument in steps:
        if what == "round":
            yield
        elif what != "write" or not (root / path).is_fifo():
            with suppress(OSError):  # a step that makes no sense on this tree
                _do_step(root, what, root / path, argument, dice)
    yield
