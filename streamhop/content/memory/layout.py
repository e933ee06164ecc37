"""Which file of a page store belongs to which object and addresses, written down so that another store can go on.

A line for each object and for each of its segments, in the order in which they came, which gives them their numbers
and levels. The file only ever grows; a line that is cut off at the end stands for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from streamhop_protocol.errors import MalformedError
from streamhop_protocol.page_batches import check_object_name

LAYOUT_BYTES_MAX = 64 * 1024 * 1024
SEGMENT_NUMBER_MAX = 1 << 14
"""57 bits of address in segments of 43 bits."""


class Layout:
    """The layout of one store.

    :param path: the file; its directory may be made later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add_object(self, name: str) -> None:
        """The next object is called so.

        :raises OSError: it cannot be written.
        """
        self._append(f"object {name}\n")

    def add_segment(self, object_number: int, segment_number: int) -> None:
        """The object of that number, counted from 1, has another segment.

        :raises OSError: it cannot be written.
        """
        self._append(f"segment {object_number} {segment_number}\n")

    def read(self, adopt: Callable[[str, Sequence[int]], None]) -> None:
        """Call ``adopt`` with the name and the segments of each object, in order.

        :raises MalformedError: no store has written that.
        :raises OSError: it cannot be read.
        """
        if not self._path.parent.is_dir():
            raise MalformedError(f"{self._path.parent} is not the directory of a page store")
        text = self._path.read_text(encoding="ascii", errors="replace") if self._path.exists() else ""
        if len(text) > LAYOUT_BYTES_MAX:
            raise MalformedError("the layout of the page store is too long")
        whole, newline, cut_off = text.rpartition("\n")
        objects: list[tuple[str, list[int]]] = []
        for line in whole.splitlines():
            match line.split(" "):
                case ["object", name]:
                    objects.append((check_object_name(name), []))
                case ["segment", number, segment] if number.isdecimal() and segment.isdecimal():
                    if not 0 < int(number) <= len(objects) or int(segment) >= SEGMENT_NUMBER_MAX:
                        raise MalformedError("the layout of the page store names a segment of nothing")
                    objects[int(number) - 1][1].append(int(segment))
                case _:
                    raise MalformedError("a line of the page store's layout cannot be read")
        if cut_off:
            self._path.write_text(whole + newline, encoding="ascii")
        for name, segments in objects:
            adopt(name, segments)

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="ascii") as file:
            file.write(line)
