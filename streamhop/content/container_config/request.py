"""What the target is to create: the body of ``POST /containers/create`` and what is applied after the move."""

from __future__ import annotations

import copy
import ipaddress
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamhop_protocol.errors import MalformedError

from .mounts import mounts_of
from .schema import BODY, RESTART_POLICY, Checker

NO_RESTART = {"Name": "no", "MaximumRetryCount": 0}

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_HOSTNAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_RESTARTS = frozenset({"", "no", "always", "unless-stopped", "on-failure"})


@dataclass(frozen=True, slots=True)
class CreationRequest:
    """A container to create. Treat the body as read-only."""

    name: str
    """Name at the target."""

    body: dict[str, Any]
    """Names its image by ID. Its restart policy is always ``no``: until the move is done nothing but the move may
    start this container."""

    restart_policy: dict[str, Any]
    """The policy that the container has at the source, for after the move."""

    @property
    def image(self) -> str:
        """ID of the container's image at the source."""
        return str(self.body["Image"])

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that must exist at the target."""
        endpoints = self.body.get("NetworkingConfig", {}).get("EndpointsConfig", {})
        mode = self.body["HostConfig"].get("NetworkMode", "default")
        return tuple(endpoints) or (mode if mode != "default" else "bridge",)

    def body_with(self, *, image: str | None = None, runtime: str | None = None) -> dict[str, Any]:
        """A copy of the body with what only the target can know.

        :param image: what to call the image: a name that is known to be this image's, or its ID on this engine.
        :param runtime: name of the OCI runtime as this engine's configuration has it.
        """
        body = copy.deepcopy(self.body)
        if image is not None:
            body["Image"] = image
        if runtime is not None:
            body["HostConfig"]["Runtime"] = runtime
        return body

    def to_wire(self) -> dict[str, Any]:
        """The request as maps, lists, strings and numbers."""
        return {"name": self.name, "body": self.body, "restart_policy": self.restart_policy}

    @classmethod
    def from_wire(cls, value: object) -> CreationRequest:
        """Check a peer's request. Whether this host *wants* such a container is :func:`admit`'s to say.

        :raises MalformedError: a field may not travel, is of the wrong kind or has a value Docker would not take.
        :raises LimitError: it is too large.
        """
        if not isinstance(value, dict) or not value.keys() <= {"name", "body", "restart_policy"}:
            raise MalformedError("the request for a container is not a map of name, body and restart_policy")
        checker = Checker()
        name = checker.check(value.get("name"), str, "the container's name")
        if not _NAME.fullmatch(name):
            raise MalformedError("the container's name is not one that Docker accepts")
        body = checker.check(value.get("body"), BODY, "the container's configuration")
        _check_body(body)
        mounts_of(body)
        policy = checker.check(value.get("restart_policy"), RESTART_POLICY, "the restart policy")
        if policy.get("Name", "") not in _RESTARTS or policy.get("MaximumRetryCount", 0) < 0:
            raise MalformedError("the restart policy is none that Docker knows")
        return cls(name=name, body=body, restart_policy=policy)


def _is_ip_address(text: str) -> bool:
    """Docker takes no name here; and a name would have to be looked up."""
    try:
        return not text or ("%" not in text and bool(ipaddress.ip_address(text).version))
    except ValueError:
        return False


def _check_body(body: Mapping[str, Any]) -> None:
    if not _IMAGE_ID.fullmatch(body.get("Image", "")):
        raise MalformedError("the container's configuration does not name its image by ID")
    if (hostname := body.get("Hostname")) and not _HOSTNAME.fullmatch(hostname):
        raise MalformedError("the container's host name is none")
    host = body.get("HostConfig")
    if host is None:
        raise MalformedError("the container's configuration has no HostConfig")
    if host.get("RestartPolicy") != NO_RESTART:
        raise MalformedError("a container on the move must have the restart policy no")
    endpoints = body.get("NetworkingConfig", {}).get("EndpointsConfig", {})
    if any(not _NETWORK.fullmatch(network) for network in endpoints):
        raise MalformedError("the name of a network is not one that Docker accepts")
    for binding in itertools.chain.from_iterable(host.get("PortBindings", {}).values()):
        if not _is_ip_address(binding.get("HostIp", "")):
            raise MalformedError("a port is to be published on what is no IP address")
    mode = host.get("NetworkMode", "default")
    if endpoints and mode not in endpoints and not (mode == "default" and "bridge" in endpoints):
        raise MalformedError("the network mode is none of the container's networks")
