"""Volumes and binds as Docker writes them, and where they are elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from content.container_config_support import INSPECT, changed

from streamhop.content.container_config import BIND, VOLUME, Mount, creation_request, is_below, is_plain, mounts_of
from streamhop.content.container_config.mounts import mapped, parse_bind, sent_mounts, with_other_sources
from streamhop_protocol.errors import LimitError, MalformedError


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("data:/data", Mount(VOLUME, "data", "/data")),
        ("data:/data:rw", Mount(VOLUME, "data", "/data")),
        ("data:/data/:ro,nocopy", Mount(VOLUME, "data", "/data", frozenset({"ro", "nocopy"}))),
        ("/srv/a:/data", Mount(BIND, "/srv/a", "/data")),
        ("/data", Mount(VOLUME, "", "/data")),
    ],
)
def test_a_bind_is_read_as_docker_does(text: str, mount: Mount) -> None:
    assert parse_bind(text) == mount


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:b", "data:data", "data:", ":/data", "../x:/data", "x:/data", "a" * 256 + ":/data", "d1:/x:ro:y"],
)
def test_what_docker_would_not_take_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_bind(text)


def test_volumes_come_from_three_places_and_a_named_one_takes_a_place() -> None:
    body = {
        "HostConfig": {
            "Binds": ["data:/data"],
            "Mounts": [
                {"Type": "volume", "Source": "logs", "Target": "/logs", "ReadOnly": True},
                {"Type": "volume", "Target": "/scratch", "VolumeOptions": {"NoCopy": True}},
                {"Type": "bind", "Source": "/srv/a", "Target": "/a"},
                {"Type": "tmpfs", "Target": "/t"},
            ],
        },
        "Volumes": {"/data/": {}, "/image": {}},
    }
    assert mounts_of(body) == [
        Mount(VOLUME, "data", "/data"),
        Mount(VOLUME, "logs", "/logs", frozenset({"ro"})),
        Mount(VOLUME, "", "/scratch", frozenset({"nocopy"})),
        Mount(BIND, "/srv/a", "/a"),
        Mount(VOLUME, "", "/image"),
    ]
    assert [mount.read_only for mount in mounts_of(body)] == [False, True, False, False, False]


def test_two_at_one_place_and_too_many() -> None:
    with pytest.raises(MalformedError):
        mounts_of({"HostConfig": {"Binds": ["a1:/x", "b1:/x/"]}})
    with pytest.raises(LimitError):
        mounts_of({"HostConfig": {"Binds": [f"vol{number}:/{number}" for number in range(65)]}})


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/srv/data", "/mnt/x"),
        ("/srv/data/web", "/mnt/x/web"),
        ("/srv/data/special", "/mnt/y"),
        ("/srv/database", "/srv/database"),
        ("/etc", "/etc"),
    ],
)
def test_the_longest_directory_that_fits_says_where_a_bind_is(path: str, where: str) -> None:
    assert mapped(path, [("/srv/data", "/mnt/x"), ("/srv/data/special", "/mnt/y")]) == where


def test_binds_are_mapped_in_both_forms_and_nothing_else_is() -> None:
    body: dict[str, Any] = {
        "HostConfig": {
            "Binds": ["/srv/a:/srv/a:ro", "data:/srv/a2"],
            "Mounts": [
                {"Type": "bind", "Source": "/srv/a/b", "Target": "/srv/a/b"},
                {"Type": "volume", "Source": "data", "Target": "/x"},
            ],
        }
    }
    host = with_other_sources(body, [("/srv/a", "/mnt")])["HostConfig"]
    assert host["Binds"] == ["/mnt:/srv/a:ro", "data:/srv/a2"]
    assert [mount["Source"] for mount in host["Mounts"]] == ["/mnt/b", "data"]
    assert body["HostConfig"]["Binds"] == ["/srv/a:/srv/a:ro", "data:/srv/a2"]


def test_of_a_mount_only_what_says_how_it_is_mounted_travels() -> None:
    sent = sent_mounts(
        [
            {
                "Type": "volume",
                "Source": "data",
                "Target": "/d",
                "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}},
            },
            {"Type": "bind", "Source": "/srv", "Target": "/s", "BindOptions": {"CreateMountpoint": True}},
        ]
    )
    assert sent == [
        {"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {"NoCopy": True}},
        {"Type": "bind", "Source": "/srv", "Target": "/s"},
    ]


def test_a_port_is_published_elsewhere_at_the_address_it_had() -> None:
    request = creation_request(
        INSPECT, new_name=None, runtime="streamhop", publish={"8080/tcp": "28080", "53/udp": "53"}
    )
    bindings = request.body["HostConfig"]["PortBindings"]
    assert bindings["8080/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "28080"}]
    assert bindings["53/udp"] == [{"HostIp": "", "HostPort": "53"}]


def test_ports_of_several_addresses_stay_apart() -> None:
    bindings = [{"HostIp": "", "HostPort": "1"}, {"HostIp": "", "HostPort": "2"}, {"HostIp": "::1", "HostPort": "3"}]
    inspect = changed(INSPECT, "HostConfig/PortBindings", {"80/tcp": bindings})
    request = creation_request(inspect, new_name=None, runtime="streamhop", publish={"80/tcp": "8"})
    assert request.body["HostConfig"]["PortBindings"]["80/tcp"] == [
        {"HostIp": "", "HostPort": "8"},
        {"HostIp": "::1", "HostPort": "8"},
    ]


@pytest.mark.parametrize(("path", "plain"), [("/a/b", True), ("/", True), ("/a/", False), ("//a", False), ("a", False)])
def test_a_plain_path_is_written_in_one_way(path: str, plain: bool) -> None:
    assert is_plain(path) is plain


def test_below_is_by_components() -> None:
    assert is_below("/srv/data/x", "/srv/data")
    assert is_below("/srv", "/")
    assert not is_below("/srv/database", "/srv/data")
