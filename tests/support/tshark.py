"""Runs tshark with this project's dissector and gives what it shows."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISSECTOR = Path(__file__).parents[2] / "protocol" / "wireshark" / "streamhop.lua"


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame of the protocol, or a preamble, as the dissector shows it.

    :param packet: number of the packet in which it ends.
    :param connection: tshark's number of the TCP connection.
    :param from_dialer: whether it goes to the lower port, where daemons listen.
    :param dialer_port: the other one.
    :param fields: by the name of the field without ``streamhop.``, as text; a list of texts if there are several.
    """

    packet: int
    connection: int
    from_dialer: bool
    dialer_port: int
    fields: dict[str, Any]

    @property
    def name(self) -> str | None:
        """``HELLO`` and so on; None for a preamble and for a frame of an unknown type."""
        name = self.fields.get("type_name")
        assert name is None or isinstance(name, str)
        return name


def value_like(expected: Any, text: str) -> Any:
    """A field that tshark shows as text, in the form that ``expected`` has; bytes are ``{"hex": ...}``."""
    if isinstance(expected, str):
        return text
    if isinstance(expected, int):
        return int(text)
    if isinstance(expected, dict) and expected.keys() == {"hex"}:
        return {"hex": text.replace(":", "")}
    return json.loads(text)


def run_tshark(capture: Path, config: Path, *arguments: str, dissector: Path | None = DISSECTOR) -> str:
    """What tshark prints about ``capture``.

    :param config: a directory of its own, so that nothing that a user has configured counts.
    :raises subprocess.CalledProcessError: tshark fails.
    """
    script = [] if dissector is None else ["-X", f"lua_script:{dissector}"]
    done = subprocess.run(
        ["tshark", "-r", str(capture), *script, *arguments],
        env={**os.environ, "WIRESHARK_CONFIG_DIR": str(config), "HOME": str(config)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout


def dissect(capture: Path, config: Path, *arguments: str) -> list[Shown]:
    """All frames and preambles of ``capture`` in the order in which their last bytes were captured."""
    printed = run_tshark(capture, config, *arguments, "-T", "json", "-J", "frame tcp streamhop", "--no-duplicate-keys")
    return [shown for packet in json.loads(printed) for shown in _of_packet(packet["_source"]["layers"])]


def _of_packet(layers: dict[str, Any]) -> list[Shown]:
    number, connection = int(layers["frame"]["frame.number"]), int(layers["tcp"]["tcp.stream"])
    ports = int(layers["tcp"]["tcp.srcport"]), int(layers["tcp"]["tcp.dstport"])
    found = layers.get("streamhop", [])
    assert "_ws.lua.error" not in json.dumps(layers), layers
    return [
        Shown(number, connection, ports[0] > ports[1], max(ports), _flat(each))
        for each in (found if isinstance(found, list) else [found])
    ]


def _flat(shown: dict[str, Any]) -> dict[str, Any]:
    """Every field of a frame, of whichever depth; those of expert information too."""
    fields: dict[str, Any] = {}
    for key, value in shown.items():
        if isinstance(value, dict):
            fields |= _flat(value)
        else:
            fields[key.removeprefix("streamhop.")] = value
    return fields
