"""What a request says about volumes, directories of the host and ports."""

from __future__ import annotations

from typing import Any

import pytest

from streamhop.config import ConfigError
from streamhop.control.api import move_request_from_json
from streamhop.control.checks import check_request_from_json
from streamhop.control.surroundings import surroundings_in
from streamhop.handover.surroundings import DEFAULT, Surroundings


def test_what_is_not_said_is_the_default() -> None:
    assert surroundings_in({}) == surroundings_in({"volumes": None, "bind_map": {}}) == DEFAULT
    assert DEFAULT.bind == "refuse"


def test_a_move_and_a_check_take_the_same() -> None:
    wishes = {
        "volumes": "copy",
        "bind": "expect",
        "bind_map": {"/srv/a": "/srv/b"},
        "publish": {"80/tcp": "8080", "53/udp": "53"},
    }
    expected = Surroundings("copy", "expect", (("/srv/a", "/srv/b"),), {"80/tcp": "8080", "53/udp": "53"})
    body = {"container": "web", "peer": "edge-b", **wishes}
    assert move_request_from_json(body).surroundings == expected
    assert check_request_from_json(body).surroundings == expected


@pytest.mark.parametrize(
    "wishes",
    [
        {"volumes": "lose"},
        {"volumes": ["copy"]},
        {"bind": True},
        {"bind_map": [["/a", "/b"]]},
        {"bind_map": {"/a": 1}},
        {"bind_map": {"a": "/b"}},
        {"bind_map": {"/a": "/b/../c"}},
        {"bind_map": {f"/{number}": "/x" for number in range(65)}},
        {"publish": {"80": "8080"}},
        {"publish": {"80/xyz": "8080"}},
        {"publish": {"0/tcp": "8080"}},
        {"publish": {"80/tcp": "0"}},
        {"publish": {"80/tcp": "65536"}},
        {"publish": {"80/tcp": "\u0668"}},
        {"publish": {"80/tcp": ""}},
    ],
)
def test_nonsense_is_named(wishes: dict[str, Any]) -> None:
    (name,) = wishes
    with pytest.raises(ConfigError, match=name):
        surroundings_in(wishes)
