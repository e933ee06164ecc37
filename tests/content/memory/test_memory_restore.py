"""The whole way with CRIU itself: rounds, dump, difference, assembly, restore, and the process finds its memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamhop.content.memory import MemorySource, PageStore

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("criu") is None, reason="CRIU is not installed"),
]

VICTIM = str(Path(__file__).with_name("memory_victim.py"))
PATIENCE_S = 20.0


class Tree:
    """memory_victim.py in a session of its own, talked to over named pipes, which survive a restore."""

    def __init__(self, directory: Path) -> None:
        self._to, self._from = directory / "to", directory / "from"
        os.mkfifo(self._to)
        os.mkfifo(self._from)
        # Held open here for reading and writing, so that neither side waits for the other or sees an end
        self._to_fd = os.open(self._to, os.O_RDWR)
        self._from_file = os.fdopen(os.open(self._from, os.O_RDWR), "r", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, VICTIM, str(directory / "mapped")],
            stdin=self._to_fd,
            stdout=self._from_file,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.host_pid = self.ns_pid = self._process.pid
        self.answer()

    def answer(self) -> str:
        guard = threading.Timer(PATIENCE_S, os.write, (os.open(self._from, os.O_WRONLY), b"no answer\n"))
        guard.start()
        try:
            return self._from_file.readline().strip()
        finally:
            guard.cancel()
            os.close(guard.args[0])

    def say(self, *words: object) -> str:
        os.write(self._to_fd, (" ".join(map(str, words)) + "\n").encode())
        return self.answer()

    def kill(self) -> None:
        os.kill(self.host_pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        if Path(f"/proc/{self.host_pid}").exists():
            os.kill(self.host_pid, signal.SIGKILL)
        os.close(self._to_fd)
        self._from_file.close()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    yield made
    made.close()


def criu(*arguments: str) -> None:
    subprocess.run(["criu", *arguments], check=True, capture_output=True, timeout=60)


def test_a_process_goes_on_from_an_assembled_image(tree: Tree, tmp_path: Path) -> None:
    source = MemorySource(1)
    store = PageStore(tmp_path / "pages", os.sysconf("SC_PAGE_SIZE"), quota_bytes=1 << 30)
    for seed in range(5):
        for batch in source.round([tree]):
            store.apply(batch.meta, batch.data)
        for name in ("anonymous", "shared", "memfd", "file"):
            assert tree.say("poke", name, 30 + seed, 6000 + seed) == "ok"
            assert tree.say("poke", name, 40, 7000 + seed) == "ok"
        assert tree.say("zero", "anonymous", 60 + seed) == "ok"
    dump = tmp_path / "dump"
    dump.mkdir()
    criu("dump", "--tree", str(tree.host_pid), "--images-dir", str(dump), "--leave-stopped")
    final = source.final(dump)
    store.begin_final()
    for batch in final.batches():
        store.apply(batch.meta, batch.data)
    assert 0 < final.stats.sent_pages < final.stats.scanned_pages / 4
    files = tmp_path / "files"
    files.mkdir()
    for path in final.image_files():
        shutil.copyfile(path, files / path.name)
    assert store.assemble(tmp_path / "image", files) == final.digest()
    tree.kill()
    shutil.rmtree(dump)
    criu("restore", "--images-dir", str(tmp_path / "image"), "--restore-detached")
    assert tree.say("verify") == "[]"
    assert tree.say("poke", "anonymous", 1, 1) == "ok"
