"""The command ``hopwire``."""

from __future__ import annotations

from importlib import import_module

import click

_COMMANDS = {
    "dump": "hopwire.commands.dump",
    "install-dissector": "hopwire.commands.install_dissector",
    "read-pcap": "hopwire.commands.read_pcap",
    "replay": "hopwire.commands.replay",
    "send": "hopwire.commands.send",
    "show": "hopwire.commands.show",
    "tap": "hopwire.commands.tap",
}
"""Where each command is, under its own name with ``_`` for ``-``. Only what is asked for is imported: half of the time
of a short ``dump`` would go into TLS and asyncio otherwise."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        found = getattr(import_module(module), cmd_name.replace("-", "_"))
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look at the wire between two streamhop daemons: record, decode, replay, attack."""
