"""Addresses on the command line."""

from __future__ import annotations

import click

from streamhop.config import Address, ConfigError, parse_address


class AddressParameter(click.ParamType[Address]):
    """HOST[:PORT]."""

    name = "host:port"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse it."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
