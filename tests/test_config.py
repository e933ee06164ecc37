"""The configuration: file, environment, flags; later wins, and nothing wrong passes silently."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from streamhop.cli.main import cli
from streamhop.config import Address, Config, ConfigError, load, parse_address, parse_rate


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_defaults_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamhop.config.DEFAULT_PATH", tmp_path / "absent.toml")
    assert load(None, {}, {}) == Config()
    assert Config().listen == Address("127.0.0.1", 4711)


def test_flags_win_over_environment_wins_over_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "file"\nlisten = "10.0.0.1"\nstate_dir = "/file"\n')
    config = load(path, {"STREAMHOP_NAME": "env", "STREAMHOP_LISTEN": "10.0.0.2:5"}, {"name": "flag", "listen": None})
    assert (config.name, config.listen, config.state_dir) == ("flag", Address("10.0.0.2", 5), Path("/file"))


def test_peers_are_names_for_addresses(tmp_path: Path) -> None:
    config = load(written(tmp_path, '[peers]\nedge-b = "10.0.0.2"\nedge-c = "[fe80::1]:9"\n'), {}, {})
    assert config.peers == {"edge-b": Address("10.0.0.2", 4711), "edge-c": Address("fe80::1", 9)}


def test_plaintext_is_asked_for_in_so_many_words(tmp_path: Path) -> None:
    assert not Config().plaintext
    assert load(written(tmp_path, "plaintext = true\n"), {}, {}).plaintext
    assert load(written(tmp_path, ""), {"STREAMHOP_PLAINTEXT": "true"}, {}).plaintext
    for text in ('plaintext = "yes"\n', "plaintext = 1\n"):
        with pytest.raises(ConfigError, match="plaintext"):
            load(written(tmp_path, text), {}, {})


def test_a_keylog_is_asked_for_in_the_file_or_by_the_flag_alone(tmp_path: Path) -> None:
    environment = {"STREAMHOP_LAB_KEYLOG": "/keys", "SSLKEYLOGFILE": "/keys"}
    assert load(written(tmp_path, ""), environment, {}).lab_keylog is None
    assert load(written(tmp_path, 'lab_keylog = "/keys"\n'), {}, {}).lab_keylog == Path("/keys")
    assert load(written(tmp_path, ""), {}, {"lab_keylog": "/keys"}).lab_keylog == Path("/keys")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmae = 'x'\n", "unknown key 'nmae'"),
        ("connections = 0\n", "connections = 0"),
        ("connections = true\n", "connections = True"),
        ("connections = 'many'\n", "connections = 'many'"),
        ("listen = ':80'\n", "config.toml: listen: ':80' is not an address: the host is missing"),
        ("limit = '20mb'\n", "config.toml: limit: '20mb' is not a rate"),
        ("limit = '39kB/s'\n", "config.toml: limit: '39kB/s': a limit is at least"),
        ("limit = 2500000\n", "config.toml: limit: '2500000' is not a rate"),
        ("peers = {b = ':80'}\n", "config.toml: [peers] b: ':80' is not an address"),
        ("listen = 'h:99999'\n", "not a port"),
        ("peers = 3\n", "must be a table"),
        ("name = [\n", "config.toml"),
        ("name = 3\n", "not a valid str"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        load(written(tmp_path, text), {}, {})


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "absent.toml", {}, {})


@pytest.mark.parametrize("text", ["", ":1", "[::1", "[::1]x", "h:", "h:0", "h:65536", "h:-1", "h:٣"])
def test_what_is_not_an_address(text: str) -> None:
    if text == "h:":
        assert parse_address(text) == Address("h")
        return
    with pytest.raises(ConfigError):
        parse_address(text)


def test_addresses_print_as_they_parse() -> None:
    for text in ("h:1", "[::1]:2", "192.0.2.7:4711"):
        assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("20mbit", 2.5e6), ("20Mbit", 2.5e6), ("1gbit", 125e6), ("2.5MB/s", 2.5e6), ("2MiB/s", 2 << 20), ("40kB/s", 40e3)],
)
def test_rates_as_users_write_them(text: str, bytes_per_s: float, tmp_path: Path) -> None:
    assert parse_rate(text) == bytes_per_s
    assert load(written(tmp_path, f'limit = "{text}"\n'), {}, {}).limit == bytes_per_s
    assert load(written(tmp_path, ""), {"STREAMHOP_LIMIT": text}, {}).limit == bytes_per_s


@pytest.mark.parametrize(
    "text", ["2500000", "20mb", "20m", "20 mbit", "20mibit", "-1mbit", "mbit", "39kB/s", "0mbit", "1e9bit", "nanMB/s"]
)
def test_what_is_no_rate_or_could_be_two(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        parse_rate(text)
    for value in (f'"{text}"', "2500000"):
        with pytest.raises(ConfigError, match=r"limit|rate"):
            load(written(tmp_path, f"limit = {value}\n"), {}, {})


def test_a_trace_is_a_path_from_each_of_the_three(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('trace = "/var/log/a"\n')
    assert load(file, {}, {}).trace == Path("/var/log/a")
    assert load(file, {"STREAMHOP_TRACE": "/var/log/b"}, {}).trace == Path("/var/log/b")
    assert load(file, {}, {"trace": "/var/log/c"}).trace == Path("/var/log/c")
    file.write_text("")
    assert load(file, {}, {}).trace is None


def test_the_readme_names_every_key_and_those_that_are_flags() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    keys = {field.name for field in fields(Config)} - {"pinned"}
    assert {key for key in keys if not re.search(rf"(?:`|^\[?){key}\b", text, re.MULTILINE)} == set()
    told = re.search(r"`name`, `listen`,[^;]*? are flags of `streamhop daemon`", text)
    assert told is not None
    told_flags = set(re.findall(r"`(\w+)`", told[0]))
    flags = {option.name for option in cli.commands["daemon"].params}
    assert told_flags == flags & keys
