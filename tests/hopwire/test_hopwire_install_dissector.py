"""The dissector comes with the wheel, and gets where Wireshark looks for it, over nobody else's file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.tshark import DISSECTOR

from hopwire import dissector
from hopwire.cli import main

ROOT = Path(__file__).parents[2]


def install(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["install-dissector", *arguments])


@pytest.fixture(autouse=True)
def _another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_it_gets_where_tshark_looks(tmp_path: Path) -> None:
    result = install()
    assert result.exit_code == 0, result.output
    (line,) = result.output.splitlines()
    assert Path(line).is_relative_to(tmp_path / "home")
    assert Path(line).read_bytes() == DISSECTOR.read_bytes()
    protocols = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, check=True).stdout
    assert "\tstreamhop\n" in protocols


def test_without_tshark_it_is_where_wireshark_looks_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install().output == f"{tmp_path}/home/.local/lib/wireshark/plugins/streamhop.lua\n"


def test_an_older_one_is_replaced_another_is_not(tmp_path: Path) -> None:
    target = tmp_path / "plugins" / "streamhop.lua"
    target.parent.mkdir()
    target.write_text("-- Wireshark dissector of the streamhop protocol, version 0.\n")
    assert install("--folder", str(target.parent)).exit_code == 0
    assert target.read_bytes() == DISSECTOR.read_bytes()
    target.write_text("-- somebody's own\n")
    refused = install("--folder", str(target.parent))
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "--force" in refused.output
    assert target.read_text() == "-- somebody's own\n"
    assert install("--folder", str(target.parent), "--force").exit_code == 0
    assert target.read_bytes() == DISSECTOR.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["streamhop.lua"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = install("--folder", str(tmp_path / "file" / "plugins"))
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "Not a directory" in result.output


def test_the_wheel_has_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("hopwire/streamhop.lua") == DISSECTOR.read_bytes()
        assert "hopwire/capture/stream_bytes.lua" in archive.namelist()
        installed = tmp_path / "installed"
        archive.extract("hopwire/streamhop.lua", installed)
    monkeypatch.setattr(dissector, "_INSTALLED", installed / "hopwire" / "streamhop.lua")
    assert dissector.dissector() == installed / "hopwire" / "streamhop.lua"
    monkeypatch.setattr(dissector, "_IN_THE_SOURCES", tmp_path / "nowhere")
    assert install("--folder", str(tmp_path / "plugins")).exit_code == 0
