"""The part of a request about a move that says what is to be done with volumes, directories of the host and ports."""

from __future__ import annotations

import re
from typing import Any

from streamhop.config import ConfigError
from streamhop.content.container_config import is_plain
from streamhop.handover.surroundings import BIND_CHOICES, DEFAULT, VOLUME_CHOICES, Surroundings

SURROUNDINGS_FIELDS = frozenset({"volumes", "bind", "bind_map", "publish"})

PAIRS_MAX = 64

_CONTAINER_PORT = re.compile(r"([0-9]{1,5})/(?:tcp|udp|sctp)")


def surroundings_in(body: dict[str, Any]) -> Surroundings:
    """The wishes in the body of ``POST /v1/moves`` or ``/v1/checks``; fields that are absent or null are the default.

    :raises ConfigError: what is wrong with them.
    """
    return Surroundings(
        volumes=_choice(body, "volumes", VOLUME_CHOICES) or DEFAULT.volumes,
        bind=_choice(body, "bind", BIND_CHOICES) or DEFAULT.bind,
        bind_map=_bind_map(_texts(body, "bind_map")),
        publish=_publish(_texts(body, "publish")),
    )


def _choice(body: dict[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is None or value in choices:
        return value
    raise ConfigError(f"{name} must be one of {', '.join(choices)}")


def _texts(body: dict[str, Any], name: str) -> dict[str, str]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ConfigError(f"{name} must be an object of strings")
    if len(value) > PAIRS_MAX:
        raise ConfigError(f"{name} has more than {PAIRS_MAX} entries")
    return value


def _bind_map(pairs: dict[str, str]) -> tuple[tuple[str, str], ...]:
    for path in (path for pair in pairs.items() for path in pair):
        if not is_plain(path):
            raise ConfigError(f"bind_map: {path!r} is no absolute path, or not written in the shortest way")
    return tuple(sorted(pairs.items()))


def _publish(pairs: dict[str, str]) -> dict[str, str]:
    for port, number in pairs.items():
        match = _CONTAINER_PORT.fullmatch(port)
        if match is None or not 0 < int(match[1]) < 65536:
            raise ConfigError(f"publish: {port!r} is no port of a container: write 80/tcp")
        if not number.isascii() or not number.isdigit() or len(number) > 5 or not 0 < int(number) < 65536:
            raise ConfigError(f"publish: {number!r} is no port between 1 and 65535")
    return pairs
