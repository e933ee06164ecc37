"""The Debian mirror is taken from the machine's own sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from hoplab.apt_sources import Source, choose_mirror, machine_mirror, parse_deb822, parse_one_line

DEB822 = """\
# The first source
Types: deb deb-src
# http://commented.example/debian
URIs: http://one.example/debian
  http://two.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 URIs: http://inside-a-key.example
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source-only.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://three.example/debian bookworm main contrib # mine
deb http://flat.example/repo ./
"""


def test_stanzas_with_comments_continuations_and_switches() -> None:
    assert list(parse_deb822(DEB822)) == [
        Source("http://one.example/debian", ("bookworm", "bookworm-updates"), ("main", "contrib")),
        Source("http://two.example/debian", ("bookworm", "bookworm-updates"), ("main", "contrib")),
    ]


def test_lines_with_comments_and_options() -> None:
    assert list(parse_one_line(ONE_LINE)) == [
        Source("http://three.example/debian", ("bookworm",), ("main", "contrib")),
        Source("http://flat.example/repo", ("./",), ()),
    ]


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        (Source("http://a.example/debian", ("bookworm",), ("main",)), True),
        (Source("https://a.example/debian", ("trixie", "bookworm"), ("main",)), True),
        (Source("http://a.example/security", ("bookworm-security",), ("main",)), False),
        (Source("http://vendor.example/", ("bookworm",), ("stable",)), False),
        (Source("cdrom:[Debian]/", ("bookworm",), ("main",)), False),
        (Source("mirror+file:/etc/apt/mirrors", ("bookworm",), ("main",)), False),
    ],
)
def test_only_the_release_itself_is_a_mirror(source: Source, chosen: bool) -> None:
    assert choose_mirror([source], "bookworm") == (source.uri if chosen else None)


def _etc(tmp_path: Path, release: str) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(release)
    (tmp_path / "apt/sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "apt/sources.list.d/vendor.list").write_text("deb http://vendor.example/ stable main\n")
    return tmp_path


def test_a_debian_machine_has_a_mirror(tmp_path: Path) -> None:
    etc = _etc(tmp_path, 'ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert machine_mirror(etc) == "http://one.example/debian"


def test_a_machine_of_another_kind_has_none(tmp_path: Path) -> None:
    assert machine_mirror(_etc(tmp_path, "ID=other\nVERSION_CODENAME=bookworm\n")) is None
