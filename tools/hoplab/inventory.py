"""What there is on a host: as lists, to see that nothing stayed behind, and as gauges, to see that nothing grows.

:func:`take` runs this file in the host with the host's own Python, so it stands alone: it imports nothing of the
package outside of that function, and its ``main`` prints one JSON document.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import Host

UNDER_WAY = (
    "/var/lib/streamhop/spool",
    "/run/streamhop/dumps",
    "/run/streamhop/restores",
    "/run/streamhop/let-go",
)
"""Directories that hold something only while a move is under way."""

LISTED = ("/var/lib/streamhop", "/run/streamhop", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
"""Directories whose every path is in the lists. Not /run/docker/netns: Docker collects there what it unmounted."""

MEASURED = (*LISTED, "/run/docker", "/run/containerd", "/var/lib/docker", "/var/lib/containerd", "/etc", "/root")
"""Directories whose files are counted and added up."""

JOURNAL = "/var/lib/streamhop/journal.sqlite"
KEPT = "/var/lib/streamhop/kept"
"""Left by a failed move for the next one, on purpose, until it expires."""

LOGS = "/var/log"

HELPERS = ("criu", "runc ", "streamhop-runtime")
"""What the command line of a process holds that only a move under way needs."""

DAEMONS: dict[str, Callable[[list[str]], bool]] = {
    "daemon": lambda words: words[-1] == "daemon" and any(word.endswith("/streamhop") for word in words),
    "dockerd": lambda words: Path(words[0]).name == "dockerd",
    "containerd": lambda words: Path(words[0]).name == "containerd",
}

NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "cgroup", "user")


def take(host: Host) -> dict[str, Any]:
    """The inventory of a host now.

    :returns: ``things``: name -> sorted list of texts, equal again once everything is as it was; ``gauges``: name ->
        number, of what cannot be equal but has to stay bounded. Sizes are in bytes.
    :raises LabError: the host cannot be asked.
    """
    from .settings import cgroup_parent

    parent = cgroup_parent(host._lab.name, host.name)  # noqa: SLF001 - the lab's own
    done = host.exec(["python3", "-", parent], input=Path(__file__).read_text())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Process:
    """What is asked of a process."""

    pid: int
    words: list[str]
    state: str
    threads: int
    rss_bytes: int

    @property
    def line(self) -> str:
        """Its command line."""
        return " ".join(self.words)


def processes() -> Iterator[Process]:
    """Every process of the host but this one and its children."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            # Behind the command's name, which may hold anything: state, parent, ...; see proc_pid_stat(5).
            name, _, rest = (entry / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            fields = rest.split()
            if int(fields[1]) != os.getpid():
                resident = int(fields[21]) * os.sysconf("SC_PAGESIZE")
                yield Process(int(entry.name), words if words[0] else [name], fields[0], int(fields[17]), resident)


def output(*command: str) -> list[str]:
    """The lines a program prints.

    :raises subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def namespaces(found: list[Process]) -> dict[str, int]:
    """Each namespace that a process is in, with one of its processes."""
    members: dict[str, int] = {}
    for process in found:
        for kind in NAMESPACES:
            with suppress(OSError):
                members.setdefault(str(Path(f"/proc/{process.pid}/ns/{kind}").readlink()), process.pid)
    return members


def rules(networks: dict[str, int]) -> list[str]:
    """The packet filter of every network namespace, without its counters."""
    lines = []
    for name, pid in sorted(networks.items()):
        ruleset = output("nsenter", f"--net=/proc/{pid}/ns/net", "nft", "--stateless", "list", "ruleset")
        lines += [f"{name} {line}" for table in tables(ruleset) if not only_prepared(table) for line in table]
    return lines


def tables(ruleset: list[str]) -> Iterator[list[str]]:
    """The tables of a rule set as nft(8) prints it, each with its lines."""
    table: list[str] = []
    for line in ruleset:
        if line.strip():
            table.append(line.strip())
        if line == "}":
            yield table
            table = []


def only_prepared(table: list[str]) -> bool:
    """Whether it is one of iptables' own without a rule: Docker makes it with the first published port, for good."""
    own = table[0].startswith(("table ip ", "table ip6 "))
    return own and all(line.endswith("{") or line == "}" or line.startswith("type filter hook") for line in table)


def mounts(lines: list[str]) -> list[str]:
    """Mount points with their kinds; see proc_pid_mountinfo(5)."""
    return sorted(f"{line.split()[4]} {line.partition(' - ')[2].split()[0]}" for line in lines)


def walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every path below ``top`` on its own file system."""
    try:
        device = os.stat(top).st_dev  # noqa: PTH116 - one call an entry, fast
    except OSError:
        return
    for directory, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = f"{directory}/{name}"
            with suppress(OSError):
                status = os.lstat(path)
                if status.st_dev == device:
                    yield path, status
                elif name in folders:
                    folders.remove(name)


def cgroups(parent: str) -> list[str]:
    """Control groups of the host's containers, as often as there are hierarchies."""
    tops = [entry for entry in Path("/sys/fs/cgroup").iterdir() if entry.is_dir() and not entry.is_symlink()]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        tops = [Path("/sys/fs/cgroup")]
    return sorted(
        f"{top.name}{path.removeprefix(str(top))}"
        for top in tops
        for path, status in walk(str(top / parent.lstrip("/")))
        if os.path.isdir(path)  # noqa: PTH112 - as above
    )


def docker_lists() -> dict[str, list[str]]:
    """Docker's own objects."""
    asked = {
        "containers": ("ps", "--all", "--format", "{{.Names}} {{.State}}"),
        "images": ("images", "--all", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"),
        "volumes": ("volume", "ls", "--format", "{{.Name}}"),
        "networks": ("network", "ls", "--format", "{{.ID}} {{.Name}}"),
    }
    return {name: sorted(output("docker", *words)) for name, words in asked.items()}


def inventory(cgroup_parent: str) -> dict[str, Any]:
    """See :func:`take`."""
    docker = docker_lists()
    running = list(processes())
    members = namespaces(running)
    networks = {name: pid for name, pid in members.items() if name.startswith("net:")}
    mounted = mounts(Path("/proc/1/mountinfo").read_text().splitlines())
    ruleset = rules(networks)
    links = [re.sub(r"@.*", "", line.split(": ")[1]) for line in output("ip", "-oneline", "link", "show")]
    zombies = [process for process in running if process.state == "Z"]
    shims = [process.line for process in running if "containerd-shim" in process.words[0]]
    groups = cgroups(cgroup_parent)
    things = {
        **docker,
        "files": sorted(path for top in UNDER_WAY for path, _ in walk(top)),
        "paths": sorted(
            # The first move makes the directories themselves.
            {
                path
                for top in LISTED
                for path, _ in walk(top)
                if not path.startswith((JOURNAL, KEPT)) and path not in UNDER_WAY
            }
        ),
        "processes": [process.line for process in running if any(word in process.line for word in HELPERS)],
        "shims": sorted(shims),
        "namespaces": sorted(members),
        "links": sorted(links),
        "mounts": mounted,
        "rules": ruleset,
        "cgroups": groups,
    }
    gauges: dict[str, int] = {
        "processes": len(running),
        "zombies": len(zombies),
        "shims": len(shims),
        "mounts": len(mounted),
        "links": len(links),
        "cgroups": len(groups),
        "rules": len(ruleset),
        **{f"namespaces.{kind}": sum(name.startswith(f"{kind}:") for name in members) for kind in NAMESPACES},
        **{name: len(lines) for name, lines in docker.items()},
        "journal.bytes": os.stat(JOURNAL).st_size if os.path.exists(JOURNAL) else 0,  # noqa: PTH110, PTH116
        "logs.bytes": sum(status.st_size for _, status in walk(LOGS)),
    }
    for name, is_it in DAEMONS.items():
        own = [process for process in running if is_it(process.words)]
        gauges[f"{name}.rss_bytes"] = sum(process.rss_bytes for process in own)
        gauges[f"{name}.threads"] = sum(process.threads for process in own)
        gauges[f"{name}.descriptors"] = sum(len(os.listdir(f"/proc/{process.pid}/fd")) for process in own)  # noqa: PTH208
    for top in MEASURED:
        found = [(path, status) for path, status in walk(top) if not path.startswith(JOURNAL)]
        gauges[f"files {top}"] = len(found)
        gauges[f"bytes {top}"] = sum(status.st_blocks * 512 for _, status in found)
    return {"things": things, "gauges": gauges}


if __name__ == "__main__":
    print(json.dumps(inventory(sys.argv[1])))  # noqa: T201 - what the lab reads
