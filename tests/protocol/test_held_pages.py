"""What a target says that it holds: what is accepted, and that everything else is refused with the right error."""

from __future__ import annotations

from typing import Any

import pytest

from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError
from streamhop_protocol.held_pages import HASH_BYTES, decode_held, encode_held
from streamhop_protocol.page_batches import ADDRESS_BITS_MAX, RUNS_PER_BATCH_MAX
from streamhop_protocol.wirepack import pack, unpack

PAGE = 4096
PAGES_MAX = (1 << ADDRESS_BITS_MAX) // PAGE


def hashes(pages: int) -> bytes:
    return bytes(HASH_BYTES * pages)


def test_what_is_encoded_is_decoded() -> None:
    held = decode_held(unpack(pack(encode_held("pagemap-1", [(3, 2), (9, 1)]))), bytes(range(48)), PAGE)
    assert held.object_name == "pagemap-1"
    assert held.runs == ((3, 2), (9, 1))
    assert held.hashes == bytes(range(48))


@pytest.mark.parametrize(
    ("value", "pages", "error"),
    [
        (None, 0, MalformedError),
        ({"o": "pagemap-1"}, 0, MalformedError),
        ({"o": "../x", "r": [[0, 1]]}, 1, MalformedError),
        ({"o": "pagemap-1", "r": []}, 0, MalformedError),
        ({"o": "pagemap-1", "r": [[0, 1]], "x": 1}, 1, MalformedError),
        ({"o": "pagemap-1", "r": [[0, True]]}, 1, MalformedError),
        ({"o": "pagemap-1", "r": [[0, 1, 0]]}, 1, MalformedError),
        ({"o": "pagemap-1", "r": [[0, 0]]}, 0, MalformedError),
        ({"o": "pagemap-1", "r": [[-1, 1]]}, 1, MalformedError),
        ({"o": "pagemap-1", "r": [[5, 2], [6, 1]]}, 3, MalformedError),
        ({"o": "pagemap-1", "r": [[5, 2]]}, 3, MalformedError),
        ({"o": "pagemap-1", "r": [[PAGES_MAX, 1]]}, 1, LimitError),
        ({"o": "pagemap-1", "r": [[2 * at, 1] for at in range(RUNS_PER_BATCH_MAX + 1)]}, 0, LimitError),
    ],
)
def test_everything_else_is_refused(value: Any, pages: int, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        decode_held(value, hashes(pages), PAGE)


def test_a_page_size_that_linux_does_not_have_is_refused() -> None:
    with pytest.raises(MalformedError):
        decode_held(encode_held("pagemap-1", [(0, 1)]), hashes(1), 1000)
