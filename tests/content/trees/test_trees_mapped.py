"""Files that processes have mapped shared are found in the tree they belong to."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamhop.content.trees import TreeScanner, shared_mapped_files

pytestmark = pytest.mark.root


@contextmanager
def process_that(code: str, *arguments: object, root: Path | None = None) -> Iterator[int]:
    """A process that has done ``code`` and waits."""
    command = [sys.executable, "-c", code + "\nprint(flush=True); sys.stdin.read()", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


MAP_ALL = """
import mmap, sys
keep = []
for path in sys.argv[1:]:
    with open(path, "r+b") as file:
        keep.append(mmap.mmap(file.fileno(), 0))
"""


def identity(path: Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


def test_an_ordinary_tree_is_matched_by_inode(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    inside, outside = tmp_path / "tree/in side", tmp_path / "outside"
    for path in (inside, outside):
        path.write_bytes(bytes(5000))
    scanner = TreeScanner(tmp_path / "tree", overlay_upper=False)
    with process_that(MAP_ALL, inside, outside) as pid:
        found = shared_mapped_files([pid], {"mount:/data": scanner})
    assert identity(inside) in found["mount:/data"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("mmap.mmap(file.fileno(), 0)", True),
        ("mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)", True),  # mprotect(2) could make it writable
        ("mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)", False),
        ("mmap.mmap(open(sys.argv[1], 'rb').fileno(), 0, prot=mmap.PROT_READ)", False),
        ("mmap.mmap(-1, 4096)", False),
    ],
)
def test_only_mappings_that_could_change_the_file_count(tmp_path: Path, code: str, expected: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    setup = f"import mmap, sys\nfile = open(sys.argv[1], 'r+b')\nkeep = {code}"
    with process_that(setup, path) as pid:
        found = shared_mapped_files([pid], {"mount:/data": TreeScanner(tmp_path, overlay_upper=False)})
    assert found == ({"mount:/data": frozenset({identity(path)})} if expected else {})


def test_a_deleted_file_and_a_process_that_is_gone_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    scanner = TreeScanner(tmp_path, overlay_upper=False)
    with process_that(MAP_ALL, path) as pid:
        path.unlink()
        assert shared_mapped_files([pid], {"mount:/data": scanner}) == {}
    assert shared_mapped_files([pid], {"mount:/data": scanner}) == {}


IN_A_ROOT = """
import ctypes, mmap, os, sys
root, *paths = sys.argv[1:]
os.unshare(os.CLONE_NEWNS) if hasattr(os, "unshare") else ctypes.CDLL(None).unshare(0x20000)
libc = ctypes.CDLL(None)
libc.mount(b"none", b"/", None, 0x44000, None)  # private, recursive
libc.mount(root.encode(), root.encode(), None, 0x5000, None)  # bind, recursive
os.chdir(root)
libc.pivot_root = lambda a, b: libc.syscall(155, a, b)
if libc.pivot_root(b".", b".") or libc.umount2(b".", 2):
    sys.exit("pivot_root failed")
keep = []
for path in paths:
    with open(path, "r+b") as file:
        keep.append(mmap.mmap(file.fileno(), 0))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of pivot_root(2) is that of x86-64")
def test_an_overlay_is_matched_by_the_path_in_the_container(tmp_path: Path) -> None:
    for name in ("lower/dir", "upper", "work", "merged", "source/shm"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("lower/dir/of image", "lower/dir/unchanged"):
        (tmp_path / name).write_bytes(bytes(5000))
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    (tmp_path / "merged/shm").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "merged/shm"], check=True)
    try:
        (tmp_path / "merged/new").write_bytes(bytes(5000))
        (tmp_path / "merged/shm/segment").write_bytes(bytes(5000))
        with process_that(IN_A_ROOT, tmp_path / "merged", "/new", "/dir/of image", "/shm/segment") as pid:
            trees = {
                "rootfs": TreeScanner(tmp_path / "upper", overlay_upper=True),
                "mount:/shm": TreeScanner(Path(f"/proc/{pid}/root/shm"), overlay_upper=False),
            }
            found = shared_mapped_files([pid], trees)
            segment = identity(Path(f"/proc/{pid}/root/shm/segment"))
        upper = tmp_path / "upper"
        assert found == {
            "rootfs": frozenset({identity(upper / "new"), identity(upper / "dir/of image")}),
            "mount:/shm": frozenset({segment}),
        }
    finally:
        subprocess.run(["umount", tmp_path / "merged/shm"], check=True)
        subprocess.run(["umount", tmp_path / "merged"], check=True)


def test_this_process_can_look_at_itself(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        found = shared_mapped_files([os.getpid()], {"mount:/data": TreeScanner(tmp_path, overlay_upper=False)})
    assert found == {"mount:/data": frozenset({identity(path)})}
