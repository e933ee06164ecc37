"""Batch descriptions: what is accepted, and that everything else is refused with the right error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError
from streamhop_protocol.limits import CHUNK_RAW_BYTES_MAX
from streamhop_protocol.page_batches import (
    ADDRESS_BITS_MAX,
    LIKE,
    LIKE_BYTES_PER_BATCH_MAX,
    RAW,
    RUNS_PER_BATCH_MAX,
    ZERO,
    ZERO_PAGES_PER_BATCH_MAX,
    PageRun,
    check_image_file_name,
    check_object_name,
    decode_meta,
    encode_meta,
)
from streamhop_protocol.wirepack import pack, unpack

PAGE = 4096
PAGES_MAX = (1 << ADDRESS_BITS_MAX) // PAGE


@st.composite
def ascending_runs(draw: st.DrawFn) -> list[PageRun]:
    runs = []
    end = 0
    for gap, pages, kind in draw(
        st.lists(
            st.tuples(st.integers(0, 1 << 30), st.integers(1, 8), st.sampled_from([RAW, ZERO])), min_size=1, max_size=30
        )
    ):
        runs.append(PageRun(end + gap, pages, kind))
        end += gap + pages
    return runs


@given(ascending_runs())
def test_what_is_encoded_is_decoded(runs: list[PageRun]) -> None:
    raw = sum(run.pages for run in runs if run.kind == RAW)
    meta = decode_meta(unpack(pack(encode_meta("pagemap-1", runs))), raw * PAGE, PAGE)
    assert meta.object_name == "pagemap-1"
    assert meta.runs == tuple(runs)
    assert meta.data_pages == raw
    assert meta.zero_pages == sum(run.pages for run in runs) - raw


def test_pages_like_those_of_another_object_have_no_data() -> None:
    runs = [PageRun(5, 3, LIKE), PageRun(8, 1, RAW)]
    meta = decode_meta(unpack(pack(encode_meta("pagemap-2", runs, "pagemap-1"))), PAGE, PAGE)
    assert meta.runs == tuple(runs)
    assert (meta.data_pages, meta.zero_pages, meta.like_pages, meta.like_object) == (1, 0, 3, "pagemap-1")


@pytest.mark.parametrize(
    ("runs", "like_object"),
    [
        ([PageRun(5, 1, LIKE)], None),
        ([PageRun(5, 1, LIKE)], "pagemap-2"),
        ([PageRun(5, 1, LIKE)], "pages-1"),
        ([PageRun(5, 1, LIKE)], "../pagemap-1"),
        ([PageRun(5, 1, ZERO)], "pagemap-1"),
    ],
)
def test_another_object_is_named_where_pages_are_like_its_own(runs: list[PageRun], like_object: str | None) -> None:
    with pytest.raises(MalformedError):
        decode_meta(encode_meta("pagemap-2", runs, like_object), 0, PAGE)


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_what_a_batch_lets_copy_is_bounded(page_size: int) -> None:
    most = LIKE_BYTES_PER_BATCH_MAX // page_size
    assert decode_meta(encode_meta("pagemap-2", [PageRun(0, most, LIKE)], "pagemap-1"), 0, page_size).like_pages == most
    with pytest.raises(LimitError):
        decode_meta(encode_meta("pagemap-2", [PageRun(0, most + 1, LIKE)], "pagemap-1"), 0, page_size)


def test_the_largest_batch_fits_a_frame_header() -> None:
    runs = [PageRun(PAGES_MAX - 2 * RUNS_PER_BATCH_MAX + 2 * at, 1, ZERO) for at in range(RUNS_PER_BATCH_MAX)]
    packed = pack(encode_meta("pagemap-shmem-" + "9" * 20, runs))
    assert len(packed) < 32 * 1024
    assert len(decode_meta(unpack(packed), 0, PAGE).runs) == RUNS_PER_BATCH_MAX


@pytest.mark.parametrize(
    "runs",
    [
        [],
        "0",
        None,
        {"0": [0, 1, 1]},
        [[0, 1]],
        [[0, 1, 1, 1]],
        [[0, 1, 2]],
        [[0, 1, -1]],
        [[0, 0, 1]],
        [[0, -1, 1]],
        [[-1, 1, 1]],
        [[0, True, 1]],
        [[False, 1, 1]],
        [[0.0, 1, 1]],
        [["0", 1, 1]],
        [0, 1, 1],
        [[5, 1, 1], [4, 1, 1]],
        [[5, 2, 1], [6, 1, 1]],
        [[5, 1, 1], [5, 1, 1]],
    ],
    ids=repr,
)
def test_runs_of_another_shape_or_order(runs: Any) -> None:
    with pytest.raises(MalformedError):
        decode_meta({"o": "pagemap-1", "r": runs}, 0, PAGE)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"o": "pagemap-1"}, {"o": "pagemap-1", "r": [[0, 1, 1]], "x": 1}])
def test_not_a_description(value: Any) -> None:
    with pytest.raises(MalformedError):
        decode_meta(value, 0, PAGE)


@pytest.mark.parametrize("data_bytes", [0, PAGE - 1, PAGE + 1, 2 * PAGE])
def test_data_of_another_length(data_bytes: int) -> None:
    with pytest.raises(MalformedError):
        decode_meta({"o": "pagemap-1", "r": [[0, 1, RAW]]}, data_bytes, PAGE)


@pytest.mark.parametrize(
    "runs",
    [
        [[PAGES_MAX, 1, ZERO]],
        [[PAGES_MAX - 1, 2, ZERO]],
        [[1 << 63, 1, ZERO]],
        [[0, (1 << 64) - 1, ZERO]],
        [[0, ZERO_PAGES_PER_BATCH_MAX + 1, ZERO]],
        [[2 * at, 1, ZERO] for at in range(RUNS_PER_BATCH_MAX + 1)],
    ],
    ids=["beyond", "across the end", "huge index", "huge count", "too many zeros", "too many runs"],
)
def test_over_a_limit(runs: Any) -> None:
    with pytest.raises(LimitError):
        decode_meta({"o": "pagemap-1", "r": runs}, 0, PAGE)


def test_data_over_the_limit() -> None:
    pages = CHUNK_RAW_BYTES_MAX // PAGE + 1
    with pytest.raises(LimitError):
        decode_meta({"o": "pagemap-1", "r": [[0, pages, RAW]]}, pages * PAGE, PAGE)


@pytest.mark.parametrize("page_size", [0, 1, 4095, 8192, 1 << 21])
def test_page_sizes_linux_does_not_have(page_size: int) -> None:
    with pytest.raises(MalformedError):
        decode_meta({"o": "pagemap-1", "r": [[0, 1, ZERO]]}, 0, page_size)


@pytest.mark.parametrize(
    "name", ["pagemap-1", "pagemap-4194304", "pagemap-shmem-0", "pagemap-shmem-18446744073709551615"]
)
def test_object_names(name: str) -> None:
    assert check_object_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pagemap-",
        "pagemap-0",
        "pagemap-01",
        "pagemap-12345678",
        "pagemap-1.img",
        "pagemap-1\n",
        "pagemap-\u0661",
        "pagemap-shmem-",
        "pagemap-shmem-00",
        "pagemap-shmem-100000000000000000000",
        "pagemap-shmem-1/../../x",
        "../pagemap-1",
        "pages-1",
        b"pagemap-1",
        1,
        None,
    ],
    ids=repr,
)
def test_names_of_no_object(name: Any) -> None:
    with pytest.raises(MalformedError):
        check_object_name(name)


@pytest.mark.parametrize(
    "name", ["core-1.img", "tmpfs-dev-70.tar.gz.img", "descriptors.json", "pagemap-1.img", "fs-1.img"]
)
def test_image_file_names(name: str) -> None:
    assert check_image_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".img",
        "..img",
        "../core-1.img",
        "a/b.img",
        "/etc/x.img",
        "a\0.img",
        "core-1.img\n",
        "core-1.IMG",
        "parent",
        "dump.log",
        "pages-1.img",
        "x" * 252 + ".img",
        "é.img",
        b"core-1.img",
        None,
    ],
    ids=repr,
)
def test_names_of_no_image_file(name: Any) -> None:
    with pytest.raises(MalformedError):
        check_image_file_name(name)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["o", "r", "x"]), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.integers(0, 2 * CHUNK_RAW_BYTES_MAX))
def test_anything_else_raises_nothing_but_protocol_errors(value: Any, data_bytes: int) -> None:
    try:
        meta = decode_meta(value, data_bytes, PAGE)
    except ProtocolError:
        return
    assert meta.data_pages * PAGE == data_bytes
