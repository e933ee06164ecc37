"""What counts as a rule of the packet filter, and what only waits for one."""

from __future__ import annotations

import pytest

from hoplab.inventory import only_prepared, tables

PREPARED = """\
table ip raw {
	chain PREROUTING {
		type filter hook prerouting priority raw; policy accept;
	}
}
"""
IN_USE = PREPARED.replace("policy accept;\n", "policy accept;\n\t\tip daddr 172.17.0.2 counter drop\n")
OF_ANOTHER = PREPARED.replace("table ip raw", "table inet gate")


@pytest.mark.parametrize(("text", "prepared"), [(PREPARED, True), (IN_USE, False), (OF_ANOTHER, False)])
def test_only_an_empty_table_of_iptables_does_not_count(text: str, *, prepared: bool) -> None:
    (table,) = tables(text.splitlines())
    assert only_prepared(table) is prepared


def test_tables_are_told_apart() -> None:
    found = list(tables((PREPARED + "\n" + OF_ANOTHER).splitlines()))
    assert [table[0] for table in found] == ["table ip raw {", "table inet gate {"]
