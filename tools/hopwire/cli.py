"""The command ``hopwire``."""

from __future__ import annotations

import click

from .commands.dump import dump
from .commands.install_dissector import install_dissector
from .commands.read_pcap import read_pcap
from .commands.replay import replay
from .commands.send import send
from .commands.show import show
from .commands.tap import tap


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look at the wire between two streamhop daemons: record, decode, replay, attack."""


for command in (dump, install_dissector, read_pcap, replay, send, show, tap):
    main.add_command(command)
