"""Which mappings are read, and under which names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from streamhop.content.memory.maps import (
    anonymous_shared_device,
    parse_maps,
    private_mappings,
    shared_mappings,
)
from streamhop.content.memory.page_windows import by_granule, expand_runs, page_windows
from streamhop.content.memory.presence import PrivatePages, file_windows

PAGE = 4096

MAPS = """\
55d0c0a00000-55d0c0a20000 r-xp 00000000 fe:00 1234                       /usr/bin/with space
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000100000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f0000100000-7f0000200000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f0000200000-7f0000300000 rw-s 00100000 00:01 78                         /memfd:mine (deleted)
7f0000300000-7f0000400000 rw-s 00000000 00:01 0                          /SYSV00000000 (deleted)
7f0000400000-7f0000500000 rw-p 00000000 00:01 79                         /memfd:private (deleted)
7f0000500000-7f0000600000 rw-s 00000000 00:05 80                         /dev/shm/a file
7f0000600000-7f0000a00000 rw-s 00000000 00:0f 81                         /memfd:huge (deleted)
7f0000a00000-7f0000e00000 rw-p 00000000 00:0f 82                         /anon_hugepage (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
7ffd00040000-7ffd00044000 r--p 00000000 00:00 0                          [vvar]
7ffd00044000-7ffd00046000 r--p 00000000 00:00 0                          [vvar_vclock]
7ffd00046000-7ffd00048000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_private_mappings() -> None:
    assert [mapping.path for mapping in private_mappings(parse_maps(MAPS))] == [
        "/usr/bin/with space",
        "[heap]",
        "/memfd:private (deleted)",
        "/anon_hugepage (deleted)",
        "[stack]",
        "[vdso]",
    ]


def test_shared_mappings_are_named_by_inode_and_come_once() -> None:
    found = shared_mappings(parse_maps(MAPS), "00:01")
    assert {name: mapping.map_file for name, mapping in found.items()} == {
        "pagemap-shmem-77": "7f0000000000-7f0000100000",
        "pagemap-shmem-78": "7f0000200000-7f0000300000",
        "pagemap-shmem-0": "7f0000300000-7f0000400000",
        "pagemap-shmem-79": "7f0000400000-7f0000500000",
        "pagemap-shmem-81": "7f0000600000-7f0000a00000",
    }


def test_lines_of_another_shape_are_left_out() -> None:
    assert parse_maps("\n7f00-7f01 rw-p\n\n") == []


def test_own_memfds_are_on_the_anonymous_device(tmp_path: Path) -> None:
    device = anonymous_shared_device()
    on_disk = tmp_path.stat().st_dev
    assert device != f"{os.major(on_disk):02x}:{os.minor(on_disk):02x}"
    assert len(device) == len("00:01")


def test_holes_of_a_file_are_not_listed() -> None:
    descriptor = os.memfd_create("sparse")
    try:
        os.ftruncate(descriptor, 300 * PAGE)
        os.pwrite(descriptor, b"x", 5 * PAGE)
        os.pwrite(descriptor, b"x" * PAGE, 200 * PAGE + 1)
        assert [int(index) for window in file_windows(descriptor, PAGE) for index in window] == [5, 200, 201]
        os.ftruncate(descriptor, 0)
        assert list(file_windows(descriptor, PAGE)) == []
    finally:
        os.close(descriptor)


def test_runs_of_pages() -> None:
    assert expand_runs(np.array([5, 100]), np.array([3, 1])).tolist() == [5, 6, 7, 100]
    windows = list(page_windows([(0, 1 << 16, 4), (1 << 20, 5, 4)]))
    assert [(int(window[0]), len(window)) for window in windows] == [(0, 1 << 16), (1 << 20, 5)]
    assert list(page_windows([])) == []


def test_cut_by_granule() -> None:
    parts = by_granule([np.array([0, 7, 8, 15, 100]), np.array([101])], 8)
    assert [part.tolist() for part in parts] == [[0, 7], [8, 15], [100, 101]]


@pytest.mark.parametrize("stride", [1, 2, 97])
def test_both_ways_of_listing_pages_agree(stride: int) -> None:
    """More regions than the kernel answers in one go, and more than it handles in one go inside."""
    import ctypes
    import mmap

    pages = 6000
    with mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        touched = range(0, pages, stride)
        for index in touched:
            memory[index * PAGE] = 1
        anchor = ctypes.c_char.from_buffer(memory)
        start = ctypes.addressof(anchor)
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
        try:
            lister = PrivatePages(descriptor, PAGE)
            listed = [int(index) for window in lister.windows(start, start + pages * PAGE) for index in window]
            assert listed == [start // PAGE + index for index in touched]
            lister._can_scan = False
            listed = [int(index) for window in lister.windows(start, start + pages * PAGE) for index in window]
            assert listed == [start // PAGE + index for index in touched]
        finally:
            os.close(descriptor)
            del anchor
