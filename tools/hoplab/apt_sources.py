"""Where the machine gets its Debian packages from: apt's sources, in both notations (sources.list(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*(.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One place to get packages from."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_one_line(text: str) -> Iterator[Source]:
    """Sources of a ``*.list`` file."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            yield Source(match[1], (match[2],), tuple(match[3].split()))


def parse_deb822(text: str) -> Iterator[Source]:
    """Sources of a ``*.sources`` file: stanzas of fields, which may go on in indented lines."""
    # Comment lines go first: they may stand inside a field and do not end a stanza.
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                if name:
                    fields[name] += " " + line.strip()
                continue
            key, colon, value = line.partition(":")
            if colon:
                name = key.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        suites, components = (tuple(fields.get(key, "").split()) for key in ("suites", "components"))
        for uri in fields.get("uris", "").split():
            yield Source(uri, suites, components)


def choose_mirror(sources: Iterable[Source], codename: str) -> str | None:
    """The mirror that serves the release ``codename`` itself, not its updates and not another vendor's packages."""
    for source in sources:
        fetched = source.uri.startswith(("http://", "https://", "file:/"))
        if fetched and codename in source.suites and "main" in source.components:
            return source.uri
    return None


def machine_mirror(etc: Path = Path("/etc")) -> str | None:
    """The Debian mirror this machine uses; ``None`` if it is no Debian or none is found."""
    release = _fields(etc / "os-release")
    if release.get("ID") != "debian":
        return None
    apt = etc / "apt"
    sources: list[Source] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".list":
            sources += parse_one_line(text)
        elif path.suffix == ".sources":
            sources += parse_deb822(text)
    return choose_mirror(sources, release.get("VERSION_CODENAME", ""))


def _fields(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}
