"""What there is on a host that a move could leave behind, and what of it should not be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hoplab import Host

SCRIPT = r"""
section() { echo "== $1"; }
section containers
docker ps --all --quiet | xargs -r docker inspect \
    --format '{{.Name}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}' || echo 'docker does not answer'
section images
docker images --all --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'
section volumes
docker volume ls --quiet
section files
find /var/lib/streamhop/spool /run/streamhop/dumps /run/streamhop/restores /run/streamhop/let-go -mindepth 1 2>/dev/null
section processes
ps -eo args= | grep -E '(^|/)(criu|runc)( |$)|streamhop-runtime|engine.runtime|guard_process' | grep -v grep
section gates
nft list tables 2>/dev/null | grep streamhop
for pid in $(docker ps --quiet | xargs -r docker inspect --format '{{.State.Pid}}'); do
    nsenter --target "$pid" --net nft list tables 2>/dev/null | grep streamhop
done
true
"""
"""Run in a host: a line ``== NAME``, then what there is of it, a line each."""

COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Inventory:
    """Lines by section, sorted."""

    sections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, section: str) -> tuple[str, ...]:
        """The lines of a section."""
        return self.sections.get(section, ())

    def counter(self) -> str | None:
        """The state of the container that is moved; ``None`` if it is not here."""
        for line in self.of("containers"):
            name, _, rest = line.partition(" ")
            if name == f"/{COUNTER}":
                return rest.split()[0]
        return None


def parse(text: str) -> Inventory:
    """What :data:`SCRIPT` printed."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line[3:], [])
        elif line.strip():
            lines.append(line.strip())
    return Inventory({name: tuple(sorted(found)) for name, found in sections.items()})


def take(host: Host) -> Inventory:
    """The inventory of a host."""
    return parse(host.exec(SCRIPT).stdout)


def residue(
    before: Mapping[str, Inventory], after: Mapping[str, Inventory], holder: str | None, policy: str, image: str
) -> list[str]:
    """What is on the hosts that should not be, and what is missing; empty if all is well.

    :param holder: the host that has the container in the end; ``None`` if none has.
    :param policy: the restart policy that it had before the move and has to have after it.
    :param image: the name of the image that the holder may have got with it.
    """
    found: list[str] = []
    for host, now in after.items():
        then = before[host]
        wanted = {f"/{COUNTER} running {policy}", f"/{COUNTER} exited {policy}"} if host == holder else set()
        found += [f"{host}: container {line}" for line in now.of("containers") if line not in wanted]
        images_then, images_now = set(then.of("images")), set(now.of("images"))
        brought = {line for line in images_now - images_then if host == holder and line.endswith(f" {image}")}
        found += [f"{host}: image {line}" for line in sorted(images_now - images_then - brought)]
        found += [f"{host}: image {line} is gone" for line in sorted(images_then - images_now)]
        for section in ("volumes", "files", "processes", "gates"):
            found += [f"{host}: {section}: {line}" for line in now.of(section) if line not in then.of(section)]
    return found
