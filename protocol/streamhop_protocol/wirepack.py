"""The one module that imports msgpack, and fixes its limits.

msgpack's own limits follow the input's length, so the input is capped first; the number of items in all, nesting and
duplicate keys are checked here because msgpack checks none of them.
"""

from __future__ import annotations

import re
from typing import Any

import msgpack

from .errors import LimitError, MalformedError
from .limits import FRAME_HEADER_BYTES_MAX, ITEMS_MAX, NESTING_MAX

_TOO_LONG = re.compile(r"exceeds max_(array|map)_len")
"""What msgpack says in a ValueError, as of much else."""

_TIMESTAMP = -1
"""The one extension type that msgpack knows itself: its hook is not asked."""


def pack(value: Any) -> bytes:
    """Encode maps, lists, str, bytes, int, bool, None and float.

    :raises ValueError, TypeError: for what msgpack cannot hold; a bug of the caller.
    """
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def _unique_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in pairs:
        if not isinstance(key, str):
            raise MalformedError(f"map key is a {type(key).__name__}, not a string")
        if key in result:
            raise MalformedError(f"map key {key[:64]!r} occurs twice")
        result[key] = item
    return result


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise MalformedError(f"msgpack extension type {code} is not used by this protocol")


_SIMPLE = frozenset({int, str, bytes, bool, float, type(None)})


def _check_children(value: dict[str, Any] | list[Any], depth_left: int) -> None:
    if depth_left == 0:
        raise LimitError(f"msgpack value is nested deeper than {NESTING_MAX}")
    for child in value.values() if isinstance(value, dict) else value:
        if type(child) in _SIMPLE:  # most are, and there may be thousands
            continue
        if isinstance(child, dict | list):
            _check_children(child, depth_left - 1)
        elif isinstance(child, msgpack.Timestamp):
            _refuse_ext(_TIMESTAMP, b"")


def unpack(data: bytes | bytearray | memoryview, *, bytes_max: int = FRAME_HEADER_BYTES_MAX) -> Any:
    """Decode exactly one msgpack value that fills ``data``.

    :param bytes_max: largest ``len(data)`` accepted.
    :raises LimitError: too long, nested too deep or too many items.
    :raises MalformedError: not msgpack, trailing bytes, non-string or duplicate keys, extension types, bad UTF-8.
    """
    size = len(data)
    if size > bytes_max:
        raise LimitError(f"msgpack value of {size} bytes, at most {bytes_max} allowed")
    items_left = ITEMS_MAX

    def count(items: int) -> None:
        nonlocal items_left
        items_left -= items
        if items_left < 0:
            raise LimitError(f"msgpack value of more than {ITEMS_MAX} items")

    def take_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        count(len(pairs))
        return _unique_map(pairs)

    def take_list(items: list[Any]) -> list[Any]:
        count(len(items))
        return items

    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,  # keys are checked, with a clearer message, in _unique_map
            object_pairs_hook=take_map,
            list_hook=take_list,
            ext_hook=_refuse_ext,
            timestamp=0,
            # A container's memory is there before the hooks see it.
            max_array_len=min(size, ITEMS_MAX),
            max_map_len=min(size, ITEMS_MAX),
        )
    except (LimitError, MalformedError):
        raise
    except msgpack.exceptions.StackError as error:
        raise LimitError("msgpack value is nested too deep") from error
    except (msgpack.exceptions.UnpackException, ValueError) as error:
        if size > ITEMS_MAX and _TOO_LONG.search(str(error)):
            raise LimitError(f"msgpack value of more than {ITEMS_MAX} items") from error
        raise MalformedError(f"not one msgpack value: {error or type(error).__name__}") from error
    _check_children([value], NESTING_MAX + 1)
    return value
