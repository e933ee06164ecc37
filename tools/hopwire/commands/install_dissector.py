"""``hopwire install-dissector``."""

from __future__ import annotations

from pathlib import Path

import click

from hopwire.dissector import install, plugin_folder

from .common import expected_errors


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Instead of the user's own folder.")
@click.option("--force", is_flag=True, help="Over another file of the same name, too.")
@expected_errors
def install_dissector(folder: Path | None, force: bool) -> None:
    """Give Wireshark and tshark the dissector of this protocol; print where it is."""
    click.echo(install(folder or plugin_folder(), force=force))
