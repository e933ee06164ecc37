"""What a failed move has brought to this host, kept for the next attempt: layers, memory, files need not come again.

Each move writes below a spool of its own. When it fails the parts that another attempt can use are put away under a key
that the next offer of the same container by the same peer has too. Nothing kept is believed: layers are verified again,
of memory only what is found on disk is told to the source.

Kept content expires, by a clock that nobody sets; that of an earlier daemon counts as new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

LABEL = "label.json"
PAGES, LAYERS, BLOCKS = "pages", "layers", "blocks"
_REUSABLE = frozenset({LABEL, PAGES, LAYERS, BLOCKS})
_SECTOR_BYTES = 512

NEWEST_MAX = 1000
"""Keys of which it is known which attempt was the last."""


@dataclass(frozen=True, slots=True)
class Label:
    """What content belongs to.

    :param peer: the source, by the reference that stays the same.
    :param container: its name there.
    :param image: the image's ID there.
    """

    peer: str
    container: str
    image: str

    @property
    def key(self) -> str:
        """What the directory is called: 32 hexadecimal digits."""
        return hashlib.sha256("\0".join((self.peer, self.container, self.image)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Kept:
    """Content of one failed move."""

    key: str
    label: Label
    size_bytes: int
    expires_s: float
    """Seconds from now."""


class KeptContent:
    """The kept content of a host. Thread-safe; blocks for the file system.

    :param directory: made when it is needed, 0700; on the file system of the spools.
    :param seconds_max: how long content is kept; 0: never.
    :param bytes_max: of all of it on disk; the oldest goes first.
    :param clock: seconds that only ever rise.
    """

    def __init__(
        self, directory: Path, *, seconds_max: float, bytes_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._seconds_max = seconds_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._since: dict[str, float] = {}
        self._newest: dict[str, Path] = {}
        """The spool that was last begun for a key: what an older one brings is of no use any more."""
        self._lock = threading.Lock()

    def begin(self, spool: Path, label: Label) -> None:
        """Make the spool of a move, with what an earlier attempt has left.

        :raises OSError: it cannot be made.
        """
        spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            self._expire()
            self._since.pop(label.key, None)
            self._newest.pop(label.key, None)
            self._newest[label.key] = spool
            if len(self._newest) > NEWEST_MAX:
                del self._newest[next(iter(self._newest))]
            try:
                (self._directory / label.key).rename(spool)
            except FileNotFoundError:
                spool.mkdir(mode=0o700)
        (spool / LABEL).write_text(json.dumps(asdict(label)), encoding="utf-8")

    def give_up(self, spool: Path) -> None:
        """Nothing of a move will be kept: its content is wrong, finds no room, or nobody wants it any more.

        It goes at once: on a disk that is full even the journal may need the room.

        :raises OSError: something of it is left.
        """
        (spool / LABEL).unlink(missing_ok=True)
        if spool.exists():
            for path in spool.iterdir():
                _remove(path)

    def end(self, spool: Path) -> None:
        """A move has failed: put away what another attempt can use, remove the rest. Safe to repeat.

        :raises OSError: something of it is left where it was.
        """
        label = _read_label(spool)
        if label is None or not self._seconds_max:
            if spool.exists():
                shutil.rmtree(spool)
            return
        if self._newest.get(label.key, spool) != spool:
            shutil.rmtree(spool)
            return
        for path in spool.iterdir():
            if path.name not in _REUSABLE:
                _remove(path)
        with self._lock:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = self._directory / label.key
            if place.exists():
                shutil.rmtree(place)
            spool.rename(place)
            self._since[label.key] = self._clock()
            self._expire()

    def all(self) -> list[Kept]:
        """What is kept, the oldest first."""
        with self._lock:
            return self._expire()

    def drop(self, key: str) -> bool:
        """Remove content; returns False if there is none of that key.

        :raises OSError: something of it is left.
        """
        with self._lock:
            if key not in {kept.key for kept in self._listed()}:
                return False
            shutil.rmtree(self._directory / key)
            self._since.pop(key, None)
            return True

    def _listed(self) -> list[Kept]:
        now, found = self._clock(), []
        if self._directory.exists():
            for path in self._directory.iterdir():
                label = _read_label(path)
                if label is None or label.key != path.name:
                    _remove(path)
                    continue
                since = self._since.setdefault(path.name, now)
                found.append(Kept(path.name, label, _size_bytes(path), since + self._seconds_max - now))
        return sorted(found, key=lambda kept: kept.expires_s)

    def _expire(self) -> list[Kept]:
        """Remove what is too old, then the oldest of what is too much; returns what stays."""
        stays = self._listed()
        total = sum(kept.size_bytes for kept in stays)
        while stays and (stays[0].expires_s <= 0 or total > self._bytes_max):
            oldest = stays.pop(0)
            shutil.rmtree(self._directory / oldest.key, ignore_errors=True)
            self._since.pop(oldest.key, None)
            total -= oldest.size_bytes
        return stays


def _read_label(directory: Path) -> Label | None:
    try:
        values = json.loads((directory / LABEL).read_text(encoding="utf-8"))
        return Label(str(values["peer"]), str(values["container"]), str(values["image"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size_bytes(directory: Path) -> int:
    """Bytes on disk: memory lies in files that are mostly holes."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_blocks * _SECTOR_BYTES
    return total
