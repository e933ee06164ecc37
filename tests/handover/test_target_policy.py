"""The target's policy: general, per peer, and wrong ones noticed at the start."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from streamhop.config import Config, ConfigError
from streamhop.content.container_config import AdmissionPolicy
from streamhop.handover.target_policy import check_policies, policies_for_nobody, policy_of


def configured(text: str) -> Config:
    return Config(policy=tomllib.loads(text)["policy"])


def test_by_default_an_ordinary_container_may_come() -> None:
    policy = policy_of(Config(), "edge-b")
    assert policy.accept
    assert policy.admission == AdmissionPolicy()
    assert policy.memory_bytes_max == Config().memory_bytes_max


def test_a_peers_own_policy_goes_over_the_general_one() -> None:
    config = configured(
        """
        [policy]
        capabilities = ["cap_net_admin"]
        port_min = 1024
        memory_bytes_max = 1000
        [policy.edge-b]
        capabilities = ["SYS_PTRACE"]
        port_min = 1
        privileged = true
        [policy.edge-c]
        accept = false
        """
    )
    check_policies(config)
    anybody, b, c = (policy_of(config, name) for name in ("edge-x", "edge-b", "edge-c"))
    assert anybody.admission.capabilities == AdmissionPolicy().capabilities | {"NET_ADMIN"}
    assert b.admission.capabilities == anybody.admission.capabilities | {"SYS_PTRACE"}
    assert (anybody.admission.port_min, b.admission.port_min) == (1024, 1)
    assert (anybody.admission.privileged, b.admission.privileged) == (False, True)
    assert (anybody.accept, c.accept) == (True, False)
    assert b.memory_bytes_max == 1000


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"capabilites": []}, "unknown key 'capabilites'"),
        ({"runtimes": ["runc"]}, "unknown key 'runtimes'"),
        ({"capabilities": "ALL"}, "list of strings"),
        ({"capabilities": [1]}, "list of strings"),
        ({"privileged": 1}, "true or false"),
        ({"accept": "no"}, "true or false"),
        ({"port_min": 0}, "from 1 to 65535"),
        ({"port_max": True}, "whole number"),
        ({"memory_bytes_max": -1}, "whole number"),
        ({"binds": "/srv"}, "list of strings"),
        ({"binds": ["srv"]}, "no plain path"),
        ({"binds": ["/"]}, "no peer may ever have"),
        ({"binds": ["/srv", "/var"]}, "no peer may ever have"),
        ({"volumes": "no"}, "true or false"),
        ({"networks": "all"}, "create, existing"),
        ({"networks": True}, "create, existing"),
        ({"edge-b": {"port_min": "x"}}, r"\[policy.edge-b\]"),
    ],
)
def test_what_makes_no_sense_is_an_error(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_policies(Config(policy=policy))


def test_a_policy_whose_peer_is_not_known_is_noticed() -> None:
    """P12: a name that was written wrong takes a rule away without a word."""
    config = Config(policy={"accept": True, "edge-b": {"accept": False}, "egde-c": {"accept": False}})
    assert policies_for_nobody(config, {"edge-b", "edge-c"}) == ["egde-c"]


def test_binds_volumes_and_networks() -> None:
    policy = {"binds": ["/srv/a"], "networks": "create", "edge-b": {"binds": ["/srv/b"], "networks": "existing"}}
    config = Config(policy=policy | {"volumes": False})
    anybody, b = policy_of(config, "edge-x"), policy_of(config, "edge-b")
    assert (anybody.admission.binds, b.admission.binds) == (("/srv/a",), ("/srv/a", "/srv/b"))
    assert (anybody.makes_networks, b.makes_networks) == (True, False)
    assert not anybody.admission.volumes
    default = policy_of(Config(), "edge-x")
    assert (default.admission.binds, default.makes_networks, default.admission.volumes) == ((), False, True)
