"""A peer's request for a container: what is no such request is refused before anybody asks whether it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from container_config_support import changed, request, wire

from streamhop.content.container_config import CreationRequest
from streamhop.content.container_config.schema import BODY_BYTES_MAX, ITEMS_MAX, TEXT_BYTES_MAX
from streamhop.findings.finding import SHOWN_CHARACTERS_MAX, shown
from streamhop_protocol.errors import LimitError, MalformedError, ProtocolError

ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e"


def refused(value: object, error: type[ProtocolError] = MalformedError) -> None:
    """``value`` is no request, and the message is safe to print."""
    with pytest.raises(error) as caught:
        CreationRequest.from_wire(value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [None, [], "x", b"x", 1, {}, {"name": "web"}, {b"name": 1}])
def test_what_is_no_request_is_refused(value: object) -> None:
    refused(value)


@pytest.mark.parametrize("place", ["name", "body", "restart_policy", "body/HostConfig", "body/Image"])
def test_parts_that_must_be_there(place: str) -> None:
    refused(changed(wire(), place, None))


@pytest.mark.parametrize(
    "name",
    ["", "-web", "../web", "a/b", "web\0", "web\n", "we b", ESCAPE, "w\u00e9b", "w" * 129, "w" * 10_000, "\ud800", 7],
    ids=lambda name: repr(name)[:20],
)
def test_names_that_docker_would_not_take(name: object) -> None:
    refused(changed(wire(), "name", name))


@pytest.mark.parametrize(
    "image", ["", "web:1", "sha256:" + "0" * 63, "sha256:" + "0" * 64 + "\n", "sha256:" + "G" * 64]
)
def test_an_image_is_named_by_its_id_alone(image: str) -> None:
    refused(changed(wire(), "body/Image", image))


@pytest.mark.parametrize("hostname", ["a b", "a\n", ESCAPE, "a/b", "h" * 65, "$(id)"])
def test_host_names_that_are_none(hostname: str) -> None:
    refused(changed(wire(), "body/Hostname", hostname))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("extra", 1),
        ("body/hostconfig", {"Privileged": True}),
        ("body/HOSTCONFIG", {}),
        ("body/HostConfig/privileged", True),
        ("body/HostConfig/binds", ["/:/host"]),
        ("body/HostConfig/CriuConfig", "x"),
        ("body/HostConfig/Hooks", {"prestart": [{"path": "/bin/sh"}]}),
        ("body/HostConfig/ContainerIDFile", "/etc/cron.d/x"),
        ("body/HostConfig/OciConfig", {}),
        ("body/Hooks", {}),
        ("body/MacAddress", "02:42:00:00:00:01"),
        ("body/OnBuild", []),
        ("body/NetworkingConfig/endpointsconfig", {}),
        ("body/NetworkingConfig/EndpointsConfig/edge/NetworkID", "x"),
        ("body/HostConfig/Mounts", [{"Type": "bind", "BindOptions": {"Propagation": "rshared"}}]),
        ("body/HostConfig/Mounts", [{"Type": "volume", "VolumeOptions": {"DriverConfig": {}}}]),
        ("body/HostConfig/Devices", [{"pathonhost": "/dev/sda"}]),
        ("body/HostConfig/RestartPolicy/name", "always"),
        ("body/HostConfig/" + ESCAPE, 1),
        ("restart_policy/name", "always"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_fields_that_may_not_travel(place: str, value: object) -> None:
    refused(changed(wire(), place, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Privileged", "true"),
        ("Privileged", 1),
        ("Privileged", []),
        ("CapAdd", "ALL"),
        ("CapAdd", [1]),
        ("CapAdd", [None]),
        ("CapAdd", {"ALL": 1}),
        ("Memory", 1.5),
        ("Memory", True),
        ("Memory", float("nan")),
        ("Memory", "1"),
        ("Tmpfs", ["/run"]),
        ("Tmpfs", {1: "x"}),
        ("Tmpfs", {"/run": None}),
        ("PortBindings", {"80/tcp": [{"HostPort": 80}]}),
        ("PortBindings", {"80/tcp": "80"}),
        ("Runtime", b"streamhop"),
        ("LogConfig", "json-file"),
        ("Labels", {}),
    ],
    ids=repr,
)
def test_values_of_another_kind(field: str, value: object) -> None:
    refused(wire(**{field: value}))


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63), 1 << 200])
def test_numbers_that_do_not_fit(number: int) -> None:
    refused(wire(Memory=number), LimitError)


@pytest.mark.parametrize(
    "policy", [{"Name": "always"}, {"Name": "no", "MaximumRetryCount": 1}, {}, None, {"Name": "no"}]
)
def test_nothing_but_the_move_may_start_it(policy: object) -> None:
    refused(wire(RestartPolicy=policy))


@pytest.mark.parametrize("policy", [{"Name": "Always"}, {"Name": "x"}, {"Name": "on-failure", "MaximumRetryCount": -1}])
def test_restart_policies_that_docker_does_not_know(policy: object) -> None:
    refused(changed(wire(), "restart_policy", policy))


@pytest.mark.parametrize("name", ["always", "unless-stopped", "on-failure", "no", ""])
def test_restart_policies_for_afterwards(name: str) -> None:
    policy = {"Name": name, "MaximumRetryCount": 3}
    assert CreationRequest.from_wire(changed(wire(), "restart_policy", policy)).restart_policy == policy


@pytest.mark.parametrize("network", ["", "a/b", "../x", "container:web", ESCAPE, "n" * 257])
def test_networks_whose_name_is_none(network: str) -> None:
    refused(changed(wire(), "body/NetworkingConfig/EndpointsConfig", {"edge": {}, network: {}}))


def test_the_network_mode_is_one_of_the_networks() -> None:
    refused(wire(NetworkMode="other"))
    refused(wire(NetworkMode="host"))


def _label(size: int) -> dict[str, Any]:
    return changed(wire(), "body/Labels", {"x": "y" * size})


@pytest.mark.parametrize(
    "make",
    [
        lambda: _label(100 << 20),
        lambda: _label(TEXT_BYTES_MAX + 1),
        lambda: changed(wire(), "body/Labels", {"y" * (TEXT_BYTES_MAX + 1): ""}),
        lambda: changed(wire(), "body/Labels", {"x": "\u20ac" * (TEXT_BYTES_MAX // 2)}),
        lambda: changed(wire(), "body/Env", ["E=" + "x" * 100_000] * (BODY_BYTES_MAX // 100_000 + 1)),
        lambda: changed(wire(), "body/Env", [""] * (ITEMS_MAX + 1)),
        lambda: changed(wire(), "body/ExposedPorts", {str(port): {} for port in range(ITEMS_MAX + 1)}),
        lambda: wire(BlkioDeviceReadBps=[{}] * (ITEMS_MAX + 1)),
    ],
    ids=["100 MB label", "long label", "long key", "long in bytes", "long together", "many", "many keys", "many maps"],
)
def test_what_is_too_large(make: Callable[[], object]) -> None:
    refused(make(), LimitError)


def test_the_longest_label_is_taken() -> None:
    assert CreationRequest.from_wire(_label(TEXT_BYTES_MAX)).body["Labels"] == {"x": "y" * TEXT_BYTES_MAX}


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_strings_that_are_no_text(text: str) -> None:
    refused(changed(wire(), "body/Env", [f"A={text}"]))
    refused(changed(wire(), "body/Labels", {text: "x"}))


def test_a_set_may_have_null_members_as_docker_writes_them() -> None:
    body = CreationRequest.from_wire(changed(wire(), "body/ExposedPorts", {"80/tcp": None})).body
    assert body["ExposedPorts"] == {"80/tcp": {}}
    refused(changed(wire(), "body/ExposedPorts", {"80/tcp": {"x": 1}}))


def test_what_is_checked_is_a_copy() -> None:
    value = wire()
    checked = CreationRequest.from_wire(value)
    value["body"]["HostConfig"]["CapAdd"].append("ALL")
    assert checked == request()


@pytest.mark.parametrize("text", [ESCAPE, "x" * 10_000, ESCAPE * 1000, "\u202e" * 80, 7, None])
def test_what_is_shown_is_short_and_harmless(text: object) -> None:
    assert shown(text).isprintable()
    assert shown(text).isascii()
    assert len(shown(text)) <= SHOWN_CHARACTERS_MAX
