"""From what ``docker inspect`` prints to a request for the same container elsewhere."""

from __future__ import annotations

import copy

from container_config_support import ID, IMAGE, INSPECT, NETWORK_ID, changed, inspected

from streamhop.content.container_config import CreationRequest, creation_request


def made(inspect: dict[str, object]) -> CreationRequest:
    """A request under the container's own name."""
    return creation_request(inspect, new_name=None, runtime="streamhop")


def test_everything_that_was_asked_for_is_asked_for_again() -> None:
    body = made(INSPECT).body
    for field in (
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "Healthcheck",
        "StopSignal",
        "Domainname",
    ):
        assert body[field] == INSPECT["Config"][field]
    for field in (
        "CapAdd", "CapDrop", "Dns", "DnsSearch", "ExtraHosts", "GroupAdd", "LogConfig", "MaskedPaths", "Memory",
        "MemorySwap", "Mounts", "NanoCpus", "OomScoreAdj", "PidsLimit", "ReadonlyPaths", "ReadonlyRootfs",
        "SecurityOpt", "ShmSize", "Sysctls", "Tmpfs", "Ulimits", "CpusetCpus", "CgroupnsMode", "IpcMode",
    ):  # fmt: skip
        assert body["HostConfig"][field] == INSPECT["HostConfig"][field]


def test_zeros_that_say_something_are_kept_and_others_are_not() -> None:
    body = made(INSPECT).body
    assert (body["StopTimeout"], body["HostConfig"]["MemorySwappiness"]) == (0, 0)
    assert not {"Tty", "Volumes"} & body.keys()
    assert not {"Binds", "BlkioWeight", "Privileged", "Devices", "OomKillDisable"} & body["HostConfig"].keys()
    open_paths = made(inspected(MaskedPaths=[], ReadonlyPaths=[])).body["HostConfig"]
    assert (open_paths["MaskedPaths"], open_paths["ReadonlyPaths"]) == ([], [])


def test_the_host_name_is_kept_also_where_it_was_made_from_the_id() -> None:
    assert made(INSPECT).body["Hostname"] == "web-edge-1"
    assert made(changed(INSPECT, "Config/Hostname", ID[:12])).body["Hostname"] == ID[:12]


def test_the_restart_policy_waits_until_the_move_is_done() -> None:
    request = made(INSPECT)
    assert request.body["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert request.restart_policy == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert made(inspected(RestartPolicy=None)).restart_policy == {}


def test_the_runtime_is_the_one_that_restores_and_the_source_s_is_forgotten() -> None:
    request = made(inspected(Runtime="kata"))
    assert request.body["HostConfig"]["Runtime"] == "streamhop"
    assert request.body_with(runtime="hop", image="web:1")["HostConfig"]["Runtime"] == "hop"


def test_the_image_is_named_by_its_id() -> None:
    assert made(INSPECT).image == IMAGE
    other = "sha256:" + "b2" * 32
    request = creation_request(INSPECT, {"Id": other}, new_name=None, runtime="streamhop")
    assert request.image == other
    assert request.body_with(image="web:1")["Image"] == "web:1"
    assert request.image == other


def test_the_name_is_kept_unless_another_is_asked_for() -> None:
    assert made(INSPECT).name == "web"
    assert creation_request(INSPECT, new_name="web2", runtime="streamhop").name == "web2"


def test_an_image_s_entrypoint_is_not_taken_by_a_container_that_has_none() -> None:
    for entrypoint in (None, []):
        assert made(changed(INSPECT, "Config/Entrypoint", entrypoint)).body["Entrypoint"] == [""]


def test_ports_that_docker_chose_become_fixed() -> None:
    assert made(INSPECT).body["HostConfig"]["PortBindings"] == {
        "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}],
        "9/udp": [{"HostIp": "", "HostPort": "32768"}],
    }


def test_ranges_and_publish_all_become_the_ports_in_use() -> None:
    ranged = changed(INSPECT, "HostConfig/PortBindings", {"9/udp": [{"HostIp": "::", "HostPort": "32000-33000"}]})
    del ranged["NetworkSettings"]["Ports"]["8080/tcp"]
    assert made(ranged).body["HostConfig"]["PortBindings"] == {"9/udp": [{"HostIp": "::", "HostPort": "32768"}]}
    published = changed(INSPECT, "HostConfig/PortBindings", {})
    assert made(published).body["HostConfig"]["PortBindings"] == {
        "8080/tcp": [{"HostIp": "", "HostPort": "18080"}],
        "9/udp": [{"HostIp": "", "HostPort": "32768"}],
    }


def test_networks_are_asked_for_by_name_with_what_was_chosen_and_no_more() -> None:
    request = made(INSPECT)
    assert request.networks == ("back", "edge")
    assert request.body["NetworkingConfig"]["EndpointsConfig"] == {
        "back": {},
        "edge": {
            "Aliases": ["www"],
            "IPAMConfig": {"IPv4Address": "172.30.0.7"},
            "MacAddress": "02:42:ac:1e:00:07",
        },
    }


def test_a_network_s_id_becomes_its_name() -> None:
    for mode in (NETWORK_ID, NETWORK_ID[:12]):
        assert made(inspected(NetworkMode=mode)).body["HostConfig"]["NetworkMode"] == "edge"
    assert made(inspected(NetworkMode="0b5")).body["HostConfig"]["NetworkMode"] == "0b5"


def test_a_mac_address_that_was_asked_for_is_kept() -> None:
    asked = changed(INSPECT, "Config/MacAddress", "66:1f:00:00:00:01")
    endpoints = made(asked).body["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints["back"] == {"MacAddress": "66:1f:00:00:00:01"}


def test_a_container_on_the_default_bridge() -> None:
    plain = changed(inspected(NetworkMode="default"), "NetworkSettings/Networks", {"bridge": {}})
    request = made(plain)
    assert (request.body["HostConfig"]["NetworkMode"], request.networks) == ("default", ("bridge",))
    without = changed(inspected(NetworkMode="none"), "NetworkSettings/Networks", {})
    assert made(without).networks == ("none",)
    assert "NetworkingConfig" not in made(without).body


def test_it_survives_the_wire_and_the_source_is_not_changed() -> None:
    before = copy.deepcopy(INSPECT)
    request = made(INSPECT)
    assert CreationRequest.from_wire(request.to_wire()) == request
    request.body_with(image="x", runtime="y")["HostConfig"]["CapAdd"].append("CAP_SYS_ADMIN")
    assert before == INSPECT
    assert request == made(INSPECT)
