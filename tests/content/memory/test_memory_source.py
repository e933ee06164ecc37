"""Rounds over real processes, read from outside while they run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from memory_support import PAGE, ZERO_PAGE, page

from streamhop.content.memory import MemorySource, PageBatch, PageStore
from streamhop_protocol.page_batches import LIKE, WITH_DATA, XOR, ZERO, decode_meta

pytestmark = pytest.mark.root

Held = dict[tuple[str, int], bytes]


class Ref(NamedTuple):
    """A process as the engine lists it."""

    host_pid: int
    ns_pid: int


class Victim:
    """A child that runs memory_victim.py."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("memory_victim.py")), str(directory / "mapped")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = json.loads(self.process.stdout.readline())
        self.places: dict[str, int] = found["places"]
        self.memfd_inode: int = found["memfd_inode"]
        self.ref = Ref(self.process.pid, 17)

    def say(self, *words: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def private(self, name: str, index: int) -> tuple[str, int]:
        return "pagemap-17", self.places[name] // PAGE + index

    def shared(self, name: str, index: int) -> tuple[str, int]:
        """Where a page of a shared mapping goes: by the inode and the offset in the file."""
        if name == "memfd":
            return f"pagemap-shmem-{self.memfd_inode}", 300 + index
        maps = Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8").splitlines()
        line = next(line for line in maps if line.startswith(f"{self.places[name]:x}-"))
        return f"pagemap-shmem-{line.split()[4]}", index

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    child = Victim(tmp_path)
    yield child
    child.close()


def unpack(batches: list[PageBatch], before: Held | None = None) -> Held:
    """What a target would hold of these batches; ``before``: what differences are to."""
    found: Held = {}
    for batch in batches:
        meta = decode_meta(batch.meta, len(batch.data), PAGE)
        at = 0
        for first, pages, kind in meta.runs:
            for index in range(first, first + pages):
                key = (meta.object_name, index)
                found[key] = ZERO_PAGE if kind == ZERO else batch.data[at : at + PAGE]
                at += PAGE if kind in WITH_DATA else 0
                if kind == LIKE:
                    assert meta.like_object is not None
                    found[key] = {**(before or {}), **found}[meta.like_object, index]
                if kind == XOR:
                    assert before is not None
                    found[key] = bytes(new ^ old for new, old in zip(found[key], before[key], strict=True))
    return found


def source() -> MemorySource:
    return MemorySource(42)


def test_the_first_round_holds_every_kind_of_memory(victim: Victim) -> None:
    reader = source()
    held = unpack(list(reader.round([victim.ref])))
    for index in (0, 1, 199, 250, 299):
        for name in ("anonymous", "forbidden"):
            assert held[victim.private(name, index)] == page(index + 1), name
        for name in ("shared", "memfd"):
            assert held[victim.shared(name, index)] == page(index + 1), name
    assert held[victim.private("anonymous", 3)] == ZERO_PAGE
    stats = reader.last_round
    assert stats.sent_pages == stats.changed_pages == stats.new_pages == len(held)
    assert stats.zero_pages >= 2


def test_pages_never_touched_and_pages_of_files_stay(victim: Victim) -> None:
    held = unpack(list(source().round([victim.ref])))
    for name in ("anonymous", "forbidden"):
        assert victim.private(name, 230) not in held
    assert victim.shared("shared", 230) not in held
    assert victim.shared("memfd", -10) not in held
    assert held[victim.private("file", 0)] == page(1)
    assert victim.private("file", 1) not in held


def test_later_rounds_send_what_changed(victim: Victim) -> None:
    reader = source()
    list(reader.round([victim.ref]))
    scanned = reader.last_round.scanned_pages
    for name in ("anonymous", "shared", "memfd", "file"):
        victim.say("poke", name, 10, 7777)
    victim.say("zero", "anonymous", 11)
    victim.say("poke", "anonymous", 230, 8888)
    held = unpack(list(reader.round([victim.ref])))
    assert held[victim.private("anonymous", 10)] == held[victim.shared("shared", 10)] == page(7777)
    assert held[victim.shared("memfd", 10)] == held[victim.private("file", 10)] == page(7777)
    assert held[victim.private("anonymous", 11)] == ZERO_PAGE
    assert held[victim.private("anonymous", 230)] == page(8888)
    assert len(held) == reader.last_round.sent_pages < scanned / 4
    assert victim.private("forbidden", 5) not in held


def test_a_page_that_changed_a_little_goes_as_a_difference(victim: Victim, tmp_path: Path) -> None:
    reader = MemorySource(42, sent_bytes_max=1 << 26)
    held = unpack(list(reader.round([victim.ref])))
    victim.say("poke", "anonymous", 10, 7777)
    with Path(f"/proc/{victim.process.pid}/mem").open("r+b", buffering=0) as memory:
        place = victim.private("anonymous", 20)[1] * PAGE
        memory.seek(place + 100)
        memory.write(b"changed")
    batches = list(reader.round([victim.ref]))
    assert reader.last_round.difference_pages >= 1
    changed = unpack(batches, held)
    expected = bytearray(page(21))
    expected[100:107] = b"changed"
    assert changed[victim.private("anonymous", 20)] == expected
    assert changed[victim.private("anonymous", 10)] == page(7777)
    reader.close()


def test_pages_that_change_every_round_are_deferred(victim: Victim) -> None:
    reader = source()
    sent = []
    for seed in range(5):
        victim.say("poke", "anonymous", 20, 5000 + seed)
        sent.append(victim.private("anonymous", 20) in unpack(list(reader.round([victim.ref]))))
    assert sent == [True, True, True, False, False]
    assert reader.last_round.deferred_pages >= 1


def test_a_round_that_is_cut_ends_whole(victim: Victim) -> None:
    reader = source()
    rounds = reader.round([victim.ref])
    first = next(rounds)
    reader.cut_round()
    held = unpack([first, *rounds])
    assert len(held) == reader.last_round.sent_pages
    after = unpack(list(reader.round([victim.ref])))
    assert not held.keys() & {key for key in after if key[0].startswith("pagemap-shmem")}
    assert after[victim.private("forbidden", 250)] == page(251)


def test_a_mapping_shared_by_two_processes_is_sent_once(victim: Victim) -> None:
    reader = source()
    batches = list(reader.round([victim.ref, Ref(victim.process.pid, 18)]))
    name, _ = victim.shared("shared", 0)
    runs = [run for batch in batches if batch.meta["o"] == name for run in batch.meta["r"]]  # type: ignore[attr-defined]
    assert sum(pages for _, pages, _ in runs) == 202
    held = unpack(batches)
    _, index = victim.private("anonymous", 1)
    assert held["pagemap-17", index] == held["pagemap-18", index] == page(2)
    assert sum(len(batch.data) for batch in batches if batch.meta["o"] == "pagemap-18") < 20 * PAGE


def test_a_process_that_is_gone_is_left_out(victim: Victim, tmp_path: Path) -> None:
    other = Victim(tmp_path)
    other.close()
    held = unpack(list(source().round([other.ref, victim.ref])))
    assert held[victim.private("anonymous", 1)] == page(2)


def test_a_process_that_dies_during_a_round_ends_its_part(victim: Victim) -> None:
    rounds = source().round([victim.ref])
    next(rounds)
    victim.close()
    unpack(list(rounds))


def test_a_mapping_that_goes_away_during_a_round_is_left_out(victim: Victim) -> None:
    rounds = source().round([victim.ref])
    first = next(rounds)
    last = max(victim.places, key=lambda name: victim.places[name] if name in ("anonymous", "forbidden") else 0)
    victim.say("unmap", last)
    held = unpack([first, *rounds])
    kept = "forbidden" if last == "anonymous" else "anonymous"
    assert held[victim.private(kept, 1)] == page(2)


def test_descriptors_are_closed_also_when_a_round_is_cut_short(victim: Victim) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = source()
    rounds = reader.round([victim.ref])
    next(rounds)
    rounds.close()  # type: ignore[attr-defined]
    list(source().round([victim.ref]))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_forked_process_costs_what_it_has_changed(victim: Victim, tmp_path: Path) -> None:
    reader = source()
    store = PageStore(tmp_path / "store", PAGE, quota_bytes=1 << 30)
    for batch in reader.round([victim.ref]):
        store.apply(batch.meta, batch.data)
    # What is read of the same process under another number is what a child of it would have.
    victim.say("poke", "anonymous", 10, 7777)
    batches = list(reader.round([Ref(victim.process.pid, 18)]))
    assert reader.last_round.like_pages > 0.9 * (reader.last_round.sent_pages - reader.last_round.zero_pages)
    for batch in batches:
        store.apply(batch.meta, batch.data)
    held = unpack(batches, unpack(list(source().round([victim.ref]))))
    assert held["pagemap-18", victim.private("anonymous", 10)[1]] == page(7777)
