"""What waits for the word and what does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from streamhop.engine.criu_when_told import DIRECTORY, environment, has_to_wait, listen, real_criu
from streamhop.engine.setup import install_stand_in


@pytest.mark.parametrize(("kind", "waits"), [(1, True), (2, True), (3, False), (9, False), (10, False)])
def test_dumps_and_restores_wait(kind: int, waits: bool) -> None:
    assert has_to_wait(bytes([8, kind, 26, 0])) is waits


@pytest.mark.parametrize("request_bytes", [b"", b"\x08", b"\x1a\x01\x08"])
def test_what_is_no_request_does_not(request_bytes: bytes) -> None:
    assert not has_to_wait(request_bytes)


def test_the_launcher_does_not_find_itself(tmp_path: Path) -> None:
    for name in ("launchers", "real"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "criu").write_text("")
        (tmp_path / name / "criu").chmod(0o755)
    path = f"{tmp_path / 'launchers'}::{tmp_path / 'real'}"
    assert real_criu(path, str(tmp_path / "launchers")) == str(tmp_path / "real" / "criu")
    with pytest.raises(FileNotFoundError, match="no criu"):
        real_criu(str(tmp_path / "launchers"), str(tmp_path / "launchers"))


def test_other_calls_go_on_at_once(tmp_path: Path) -> None:
    """Whoever asks for the version does not wait, and gets what CRIU says and ends with."""
    install_stand_in(tmp_path / "launchers")
    (tmp_path / "criu").write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    (tmp_path / "criu").chmod(0o755)
    variables = environment(str(tmp_path / "launchers"), str(tmp_path))
    variables["PATH"] = variables["PATH"].replace(":", f":{tmp_path}:", 1)
    with listen(str(tmp_path)):
        ended = subprocess.run(["criu", "--version"], env=variables, capture_output=True, check=False, timeout=20)
    assert (ended.returncode, ended.stdout) == (7, b"--version\n")
    assert variables[DIRECTORY] == str(tmp_path)


def test_the_socket_is_in_directories_of_any_length(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    with listen(str(deep)):
        assert (deep / "criu.sock").is_socket()


def test_a_launcher_is_written_once(tmp_path: Path) -> None:
    install_stand_in(tmp_path)
    before = (tmp_path / "criu").stat()
    install_stand_in(tmp_path)
    assert (tmp_path / "criu").stat().st_mtime_ns == before.st_mtime_ns
    assert before.st_mode & 0o777 == 0o755
