"""Who the processes are: credentials, system call filters, scheduling, limits, namespaces.

Source of the fields: CRIU's images/core.proto, creds.proto, seccomp.proto, rlimit.proto, pstree.proto; what a restore
makes of them: criu/cr-restore.c, criu/seccomp.c, criu/pstree.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamhop_protocol.errors import MalformedError

from .admitted import Admitted
from .records import INVENTORY, MAGIC, Message, only_record, records
from .syscall_filters import allows_what_is_denied

MACHINES = {"x86_64": 1, "aarch64": 3}
"""Numbers of CRIU's core_entry.march."""

ROOT_IDS, ROOT_CGROUPS = 3, 5
"""Of the inventory: what CRIU itself had at the dump. A process that has the same keeps CRIU's own at a restore."""

_USER_NS = 10
_CAPABILITY_SETS = {9: "inheritable", 10: "permitted", 11: "effective", 12: "bounding", 19: "ambient"}
_IDS = (1, 2, 3, 4, 5, 6, 7, 8)
_REAL_TIME = frozenset({1, 2, 6})
"""SCHED_FIFO, SCHED_RR, SCHED_DEADLINE."""

_NICE, _RTPRIO = 13, 14
_FILTERED = 2
_TSYNC = 1
_DEAD_STATES = frozenset({2, 6})
"""CRIU's TASK_DEAD and TASK_ZOMBIE."""

_PROCESSES_MAX = 16384


def process_refusals(directory: Path, admitted: Admitted) -> Iterator[str]:
    """Everything about the processes that the configuration does not grant.

    :raises ProtocolError: the images are not what CRIU writes.
    :raises OSError: one cannot be read.
    """
    inventory = only_record(directory / "inventory.img", INVENTORY)
    if inventory.number(1) not in (1, 2) or not inventory.number(2, 0) or not inventory.number(4, 0):
        raise MalformedError("the inventory is of a version of CRIU that nobody has")
    root_ids = inventory.message(ROOT_IDS)
    if root_ids is None:
        raise MalformedError("the inventory does not tell the host's namespaces")
    filters = _Filters(directory, admitted)
    tasks = _tasks(directory)
    first_ids: Message | None = None
    for pid, threads in tasks.items():
        leader = _core(directory, pid)
        task = leader.message(3)
        if task is None:
            raise MalformedError(f"process {pid} has no core of its own")
        yield from _task(task, admitted)
        alive = task.number(1) not in _DEAD_STATES
        if alive and pid not in threads:
            raise MalformedError(f"process {pid} is alive and not among its threads")
        yield from _threads(directory, pid, threads if alive else [pid], leader, admitted, filters, alive=alive)
        if not alive:
            continue
        if not (directory / f"mm-{pid}.img").exists():
            raise MalformedError(f"process {pid} has no memory image")
        ids = only_record(directory / f"ids-{pid}.img", MAGIC["ids"])
        first_ids = first_ids or ids
        yield from _namespaces(ids, first_ids, root_ids, admitted)


def _tasks(directory: Path) -> dict[int, list[int]]:
    """Process IDs and their threads. Of a process that has ended CRIU knows one thread, but not its number."""
    tasks: dict[int, list[int]] = {}
    roots = 0
    for record in records(directory / "pstree.img", MAGIC["pstree"]):
        pid, parent, threads = record.number(1), record.number(2), record.numbers(5)
        if pid in tasks or pid == 0 or (pid not in threads and len(threads) != 1) or len(tasks) >= _PROCESSES_MAX:
            raise MalformedError(f"process {pid} is there twice, or is none")
        if parent and parent not in tasks:
            raise MalformedError(f"process {pid} has a parent that is not part of the container")
        roots += not parent
        tasks[pid] = threads
    if roots != 1 or next(iter(tasks)) != 1:
        raise MalformedError("the processes do not make one tree whose root is process 1")
    everybody = [thread for pid, threads in tasks.items() for thread in (threads if pid in threads else [pid])]
    if len(everybody) != len(set(everybody)):
        raise MalformedError("a thread belongs to two processes")
    return tasks


def _core(directory: Path, thread: int) -> Message:
    path = directory / f"core-{thread}.img"
    if not path.exists():
        raise MalformedError(f"thread {thread} has no core image")
    core = only_record(path, MAGIC["core"])
    if core.number(1) != MACHINES.get(os.uname().machine):
        raise MalformedError(f"thread {thread} is of another architecture than this host")
    if core.data(4):
        raise MalformedError(f"thread {thread} has its namespaces where only old versions of CRIU look")
    return core


def _task(task: Message, admitted: Admitted) -> Iterator[str]:
    """What all threads of a process share: see task_core_entry."""
    if any(field in task for field in (9, 11, 12)):
        raise MalformedError("a core image has fields that only old versions of CRIU write")
    if task.long(14) < admitted.oom_score_adj and not admitted.has("SYS_RESOURCE"):
        yield f"an OOM score adjustment of {task.long(14)}"
    limits = task.message(8)
    for number, limit in enumerate(limits.messages(1) if limits else ()):
        highest = limit.long(2) & (1 << 64) - 1
        most = admitted.limits.get(number, 0 if number in (_NICE, _RTPRIO) else None)
        if most is not None and highest > most and not admitted.has("SYS_RESOURCE") and not admitted.has("SYS_NICE"):
            yield f"resource limit {number} to be {highest}"


def _threads(
    directory: Path,
    pid: int,
    threads: list[int],
    leader: Message,
    admitted: Admitted,
    filters: _Filters,
    *,
    alive: bool,
) -> Iterator[str]:
    own = leader.message(5)
    for thread in threads:
        entry = own if thread == pid else _core(directory, thread).message(5)
        if entry is None:
            if alive:
                raise MalformedError(f"thread {thread} has no core of its own")
            continue
        yield from _scheduling(entry, admitted)
        credentials = entry.message(10)
        if credentials is None:
            if alive:
                raise MalformedError(f"thread {thread} has no credentials")
            continue
        yield from _credentials(credentials, admitted)
        yield from filters.refusals(entry, own or entry)


def _scheduling(entry: Message, admitted: Admitted) -> Iterator[str]:
    nice = entry.number(3, 0)
    if not admitted.has("SYS_NICE") and (nice & 1 or entry.number(4, 0) in _REAL_TIME):
        # A number of kind sint32: odd ones are negative.
        yield "a priority above the usual"


def _credentials(entry: Message, admitted: Admitted) -> Iterator[str]:
    for field, name in _CAPABILITY_SETS.items():
        words = entry.numbers(field)
        if len(words) > 2:
            raise MalformedError("a set of capabilities has more than 64 bits")
        held = sum(word << 32 * number for number, word in enumerate(words))
        if more := held & ~admitted.capabilities:
            yield f"{name} capabilities {more:#x}, which the container's configuration does not grant"
    if admitted.no_new_privileges:
        if not entry.number(18, 0):
            yield "new privileges"
        users = {entry.number(field) for field in _IDS if field % 2}
        if not admitted.has("SETUID") and users != {admitted.user}:
            yield f"users {sorted(users)} instead of {admitted.user}"
    label, sockets = entry.text(15), entry.text(16)
    if _kind_of(label) != _kind_of(admitted.label) or sockets:
        yield f"the security label {label or 'none'!r} instead of {admitted.label or 'none'!r}"
    if entry.data(17):
        yield "an AppArmor profile of its own"


def _kind_of(label: str) -> str:
    """An SELinux label without its level, which is another for every container."""
    return ":".join(label.split(":")[:3])


def _namespaces(ids: Message, first: Message, root: Message, admitted: Admitted) -> Iterator[str]:
    # A time namespace is what CRIU itself puts restored processes into; it grants nothing.
    for field in range(5, 12):
        own, hosts = ids.number(field, 0), root.number(field, 0)
        if own != first.number(field, 0):
            yield "namespaces inside the container"
        elif field in admitted.namespaces and own in (0, hosts):
            yield f"the host's namespace (field {field} of its IDs)"
        elif field == _USER_NS and own != hosts:
            yield "a user namespace of its own"


class _Filters:
    """The system call filters of the image, each judged once."""

    def __init__(self, directory: Path, admitted: Admitted) -> None:
        path = directory / "seccomp.img"
        self._wanted = admitted.seccomp
        self._filters = only_record(path, MAGIC["seccomp"]).messages(1) if path.exists() else []
        self._chains: dict[int, tuple[list[str], bool]] = {}

    def refusals(self, entry: Message, leader: Message) -> Iterator[str]:
        """About one thread; one without a filter gets the leader's where that is spread to all threads."""
        if self._wanted is None:
            return
        if entry is not leader and 11 not in entry:
            found, spread = self._chain(leader) if leader.number(11, 0) == _FILTERED else ([], False)
            if not spread:
                yield "no system call filter for a thread"
            return
        if entry.number(11, 0) != _FILTERED:
            yield "no system call filter"
            return
        found, _ = self._chain(entry)
        yield from found

    def _chain(self, entry: Message) -> tuple[list[str], bool]:
        """What is wrong with a thread's filters, and whether all its process's threads get them."""
        number = entry.number(12)
        if number not in self._chains:
            self._chains[number] = self._judge(number)
        return self._chains[number]

    def _judge(self, number: int) -> tuple[list[str], bool]:
        assert self._wanted is not None
        spread = True
        while True:
            if number >= len(self._filters):
                raise MalformedError("a system call filter is missing")
            entry = self._filters[number]
            spread = spread and bool(entry.number(3, 0) & _TSYNC)
            if 2 not in entry:
                break
            if entry.number(2) >= number:
                raise MalformedError("system call filters follow each other in a circle")
            number = entry.number(2)
        # The first of the chain is the one that the runtime set up; what a process added can only narrow it.
        passed = allows_what_is_denied(entry.data(1), self._wanted)
        return ([f"a system call filter that lets {passed} pass"] if passed else []), spread
