"""Networks that a host has routes to, from the kernel's tables."""

from __future__ import annotations

from pathlib import Path

from streamhop.engine.routes import routed_networks

IPV4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
broken
"""
IPV6 = """\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 {0} 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 {0} ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 {0} 00000000 00000003 00000000 80200001       lo
""".format("0" * 32)


def test_both_tables_are_read_without_the_default_routes(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(IPV4)
    (tmp_path / "ipv6_route").write_text(IPV6)
    assert [str(network) for network in routed_networks(tmp_path)] == ["192.168.0.0/24", "172.17.0.0/16", "fd00::/64"]


def test_a_kernel_without_ipv6_has_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(IPV4)
    assert len(routed_networks(tmp_path)) == 2


def test_this_hosts_own_tables_are_understood() -> None:
    assert all(network.prefixlen for network in routed_networks(Path("/proc/net")))
