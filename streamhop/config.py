"""The daemon's configuration: one dataclass, read from TOML, then the environment, then flags. Later wins.

Nothing is read at import. Unknown keys are errors, so that a typing mistake never silently means the default.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

DEFAULT_PATH = Path("/etc/streamhop/config.toml")
DEFAULT_PORT = 4711

HOST_CHARACTERS_MAX = 253

_HOST = re.compile(
    r"\*|(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]{1,15})?",
    re.ASCII,
)
"""What can be looked up: addresses also come from peers, and the resolver's codec has errors of its own."""


class ConfigError(Exception):
    """The configuration cannot be used; the text names the file or variable and the key."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``.

    :raises ConfigError:
    """
    host, port_text = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{text!r} is not an address: write [IPv6]:PORT")
        port_text = rest[1:]
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
    if not host:
        raise ConfigError(f"{text!r} is not an address: the host is missing")
    if len(host) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(host):
        raise ConfigError(f"{text[:64]!r} is not an address: the host is neither a name nor an IP address")
    if not port_text:
        return Address(host)
    if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
        raise ConfigError(f"{text!r} is not an address: {port_text!r} is not a port between 1 and 65535")
    return Address(host, int(port_text))


LIMIT_BYTES_PER_S_MIN = 40_000
"""Below, a single frame would be more than 5 % of what may leave in 10 s."""

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:([kmg]?)bit|([kmg]i?)?B/s)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_rate(text: str) -> float:
    """Bytes a second of ``20mbit`` (a second, as tc(8) writes it), ``2.5MB/s`` or ``2.5MiB/s``; prefixes of any case.

    A number alone, and ``20mb``, are refused: to some these are bits, to others bytes.

    :raises ConfigError: it is none of these, or too low.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a rate: write 20mbit, 2.5MB/s or 2.5MiB/s")
    number, bits, octets = match.groups()
    rate = float(number) * _FACTORS[(octets or bits or "").lower()] / (8 if text.lower().endswith("bit") else 1)
    check_limit(rate, repr(text))
    return rate


def check_limit(bytes_per_s: object, where: str) -> None:
    """:raises ConfigError: that is no limit of a rate; the text begins with ``where``."""
    number = isinstance(bytes_per_s, int | float) and not isinstance(bytes_per_s, bool)
    if not number or not LIMIT_BYTES_PER_S_MIN <= bytes_per_s < math.inf:  # type: ignore[operator]  # a number
        raise ConfigError(f"{where}: a limit is at least {LIMIT_BYTES_PER_S_MIN // 1000}kB/s")


@dataclass(frozen=True, slots=True)
class PinnedPeer:
    """A peer that the configuration trusts.

    :param id: its device ID as written.
    :param certificate: the file that holds its certificate, PEM.
    """

    id: str
    certificate: Path


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can set."""

    name: str = field(default_factory=lambda: os.uname().nodename)
    """How this daemon calls itself towards peers and people."""

    listen: Address = Address("127.0.0.1")
    """Where peers connect."""

    peers: Mapping[str, Address] = field(default_factory=dict)
    """Addresses of peers by name; for paired ones they come before those that were learnt when pairing."""

    pinned: Mapping[str, PinnedPeer] = field(default_factory=dict)
    """Peers that are trusted without pairing, from tables in ``[peers]``: for configuration management."""

    plaintext: bool = False
    """Sessions in the clear with anybody who connects, without pairing: for a link that is trusted otherwise."""

    lab_keylog: Path | None = None
    """For a lab alone: a file to which the secrets of all sessions are added, for Wireshark to read what was captured.
    Whoever reads it reads the memory of every container that moves."""

    policy: Mapping[str, Any] = field(default_factory=dict)
    """What peers may ask for; see :mod:`streamhop.handover.target_policy`, which checks it."""

    control_socket: Path = Path("/run/streamhop/control.sock")
    """Unix socket of the local control API."""

    control_group: str = ""
    """Group that may use the control socket besides root: it can do all that root can. Empty: no group."""

    state_dir: Path = Path("/var/lib/streamhop")
    """Journal and spool; needs room for an image's missing layers and the memory of what arrives."""

    run_dir: Path = Path("/run/streamhop")
    """tmpfs for the final dump and for restores under way."""

    connections: int = 2
    """Payload TCP connections of a move, beside the control connection. More help only where the kernel lacks the
    congestion control BBR and the link loses packets."""

    limit: float | None = None
    """Most bytes a second that leave as payload in each move away from here, unless the move has a limit of its own;
    written as 20mbit, 2.5MB/s or 2.5MiB/s. Holds while the container is frozen, too."""

    trace: Path | None = None
    """File for a trace, see docs/hopwire.md: every frame and decision, one line each. Slows fast links down."""

    hooks_dir: Path = Path("/etc/streamhop/hooks.d")
    """Programs that run at points of a move, see :mod:`streamhop.handover.hooks`; there need be none."""

    hook_s_max: float = 10.0
    """How long each of them may take."""

    runtime_name: str = "streamhop"
    """Under which name the OCI runtime is registered in Docker."""

    memory_bytes_max: int = 64 * 1024**3
    """Largest memory, and most bytes of files (writable layer and volumes together), a peer may send in one move."""

    layers_bytes_max: int = 64 * 1024**3
    """Most bytes of image layers a peer may send in one move."""

    precopy_s_max: float = 1800.0
    """Longest that pre-copy may take before it counts as not converging."""

    reconnect_s_max: float = 60.0
    """How long a move waits for a link that broke, unless the user says otherwise; 0: not at all."""

    kept_s_max: float = 3600.0
    """How long this host keeps what a failed move has brought, for the next attempt; 0: not at all."""

    kept_bytes_max: int = 16 * 1024**3
    """Most bytes on disk of what is kept; the oldest goes first."""


_NOT_FROM_ENVIRONMENT = frozenset({"peers", "policy", "lab_keylog"})
"""Tables, and what nobody may come by because of a variable that was left behind."""

_MAY_BE_ZERO = frozenset({"reconnect_s_max", "kept_s_max"})
_ENVIRONMENT_PREFIX = "STREAMHOP_"


def _parsed(parse: Callable[[str], Any], text: str, where: str) -> Any:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(name: str, value: Any, where: str) -> Any:
    kind = {f.name: f for f in fields(Config)}[name].type
    if name == "peers":
        if not isinstance(value, dict):
            raise ConfigError(f'{where}: [peers] must be a table of name = "host:port"')
        addresses = {key: item.get("address") if isinstance(item, dict) else item for key, item in value.items()}
        return {
            key: _parsed(parse_address, str(address), f"{where}: [peers] {key}")
            for key, address in addresses.items()
            if address is not None
        }
    if name == "policy":
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: [policy] must be a table")
        return value
    if name == "limit":
        # A bare number of TOML has no unit either.
        return _parsed(parse_rate, str(value), f"{where}: {name}")
    parsers: Mapping[object, Callable[[str], Any]] = {
        "Address": parse_address,
        "Path": Path,
        "Path | None": Path,
        "str": str,
    }
    if kind in parsers and isinstance(value, str):
        return _parsed(parsers[kind], value, f"{where}: {name}")
    if kind == "bool" and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    if kind in ("int", "float") and not isinstance(value, bool):
        try:
            number = int(value) if kind == "int" else float(value)
        except (TypeError, ValueError):
            number = -1
        if number > 0 or (number == 0 and name in _MAY_BE_ZERO):
            return number
    raise ConfigError(f"{where}: {name} = {value!r} is not a valid {str(kind).lower()}")


def _pinned(peers: Mapping[str, Any], where: str) -> dict[str, PinnedPeer]:
    """The peers whose entry is a table: ``[peers.edge-b]`` with ``id``, ``certificate`` and perhaps ``address``."""
    found = {}
    for name, entry in peers.items():
        if not isinstance(entry, dict):
            continue
        if set(entry) - {"address"} != {"id", "certificate"} or not all(isinstance(v, str) for v in entry.values()):
            raise ConfigError(f"{where}: [peers.{name}] must have id, certificate, and may have address; all are texts")
        found[name] = PinnedPeer(entry["id"], Path(entry["certificate"]))
    return found


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Read the configuration.

    :param path: a file that must exist, or None for the default file, which may be absent.
    :param environment: ``STREAMHOP_NAME``, ``STREAMHOP_LISTEN``, ...; not :data:`_NOT_FROM_ENVIRONMENT`.
    :param flags: values given on the command line; None means not given.
    :raises ConfigError: unreadable file, bad TOML, unknown key, value of the wrong kind.
    """
    values: dict[str, Any] = {}
    known = {f.name for f in fields(Config)}
    source = path or DEFAULT_PATH
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path is not None:
            raise ConfigError(f"{path}: no such file") from None
        table = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{source}: {error}") from error
    known -= {"pinned"}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{source}: unknown key {key!r}; known are {', '.join(sorted(known))}")
        values[key] = _convert(key, value, str(source))
        if key == "peers":
            values["pinned"] = _pinned(value, str(source))
    for name in known - _NOT_FROM_ENVIRONMENT:
        variable = _ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            values[name] = _convert(name, environment[variable], variable)
    for name, value in flags.items():
        if value is not None:
            values[name] = _convert(name, value, f"--{name.replace('_', '-')}")
    return replace(Config(), **values)
