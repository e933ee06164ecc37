"""Kinds of findings about a container's configuration: at the source, and by the target's policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .kind import CRIU, CRIU_ISSUE, Kind

_DOCKER_RUN = "https://docs.docker.com/reference/cli/docker/container/run/"
_README_MOVES = "README.md, What moves, and what does not yet"
_KEPT_CONNECTIONS = "README.md, Use it: --tcp"
_README_POLICY = "README.md, Use it: [policy]"

CONTAINER_KINDS: Final[Mapping[str, Kind]] = {
    "container.restarting": Kind("there is no process whose memory could be moved"),
    "container.not-running": Kind("there is no process whose memory could be moved"),
    "container.paused": Kind("what is paused by somebody else is not streamhop's to continue"),
    "container.platform": Kind("memory and processes are those of Linux", CRIU),
    "container.storage-driver": Kind(
        "what the container has written is read from the upper directory of an overlay, which others do not have",
        "https://docs.docker.com/engine/storage/drivers/overlayfs-driver/",
    ),
    "container.privileged": Kind(
        "it may hold any device and any part of this host, none of which the target has",
        f"{_DOCKER_RUN}#privileged",
    ),
    "container.init": Kind(
        "Docker mounts its init from this host over a link of the image, and CRIU cannot mount it there again",
        f"{_DOCKER_RUN}#init",
    ),
    "container.auto-remove": Kind(
        "Docker removes it at its end, also at the end that a failed restore is: nothing would be left",
        f"{_DOCKER_RUN}#rm",
    ),
    "container.swarm": Kind("the swarm sees it go and starts another one: two would run", _README_MOVES),
    "container.host-network": Kind(
        "its sockets are the host's own; at the target their addresses are others or taken",
        "https://docs.docker.com/engine/network/drivers/host/",
    ),
    "container.shared-network": Kind(
        "the network belongs to the other container, which stays here", f"{_DOCKER_RUN}#network"
    ),
    "container.namespace": Kind(
        "the processes share what belongs to others, who stay here; CRIU dumps only what is the container's own",
        f"{CRIU}/Namespaces",
    ),
    "container.docker-socket": Kind(
        "it commands this host's Docker; at the target it would command another one, with other containers",
        "https://docs.docker.com/engine/security/#docker-daemon-attack-surface",
    ),
    "container.mount": Kind(
        "the files are this host's, the container's image and writable layer do not hold them", f"{CRIU_ISSUE}81"
    ),
    "container.bind": Kind(
        "the files are this host's; whether they are to be copied, or are at the target already, only its user knows",
        f"{_DOCKER_RUN}#volume",
    ),
    "container.bind-file": Kind("only whole directories are copied", f"{_DOCKER_RUN}#volume"),
    "container.volume-driver": Kind(
        "what such a volume holds is not in files of this host alone", "https://docs.docker.com/engine/storage/volumes/"
    ),
    "container.volume-shared": Kind(
        "what the others write while it moves would be torn, and afterwards there would be two of it",
        "https://docs.docker.com/engine/storage/volumes/",
    ),
    "container.mount-link": Kind(
        "a mount whose way leads through a symbolic link of the image is not where the configuration says", CRIU
    ),
    "container.volumes-from": Kind("the files belong to the other container, which stays here", f"{CRIU_ISSUE}21"),
    "container.links": Kind("a link names a container of this host", "https://docs.docker.com/engine/network/links/"),
    "container.device": Kind(
        "a device's state is in hardware or in its driver; the target has another device, or none",
        f"{CRIU}/What_cannot_be_checkpointed",
    ),
    "container.unknown-setting": Kind(
        "a setting that is left out at the target could be one that the container relies on"
    ),
    "container.moving": Kind("one move after the other has a say in where it runs"),
    "container.too-many-processes": Kind("the bound keeps a move's memory bounded on both hosts"),
    "container.runtime": Kind(
        "what its first process was given as input and output is in runc's state, and a restore needs it"
    ),
    "container.connections": Kind(
        "a connection lives on only where the container has the same addresses on one segment with its neighbours",
        _KEPT_CONNECTIONS,
    ),
    "container.forward": Kind("only published ports can be relayed, each to the port of the same number at the target"),
    "container.no-upperdir": Kind("what the container has written could not be sent"),
}

_POLICY = Kind(
    "the manifest only asks, the target decides: a target that believed what it was sent was taken over "
    "(CVE-2024-8676, CVE-2026-53492)",
    _README_POLICY,
)
POLICY_KINDS: Final[Mapping[str, Kind]] = {
    f"policy.{what}": _POLICY
    for what in (
        "accept",
        "annotation",
        "auto-remove",
        "bind",
        "capability",
        "cgroup-parent",
        "device",
        "init",
        "isolation",
        "layers-size",
        "links",
        "log",
        "memory-size",
        "mount",
        "namespace",
        "network",
        "oom",
        "port",
        "privileged",
        "real-time",
        "runtime",
        "security-option",
        "staging",
        "storage-option",
        "sysctl",
        "system-paths",
        "tmpfs",
        "ulimit",
        "volume",
    )
}
