"""The command ``hoplab``: parse, call the library, print."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial, wraps
from tempfile import TemporaryFile
from typing import Any

import click

from .deploy import deploy as deploy_to
from .errors import LabError, UsageError
from .foreground import run_in_foreground
from .lab import KEEP, Lab
from .plan import IMAGE_STORES
from .preparation import prepare_all, require_root
from .remains import labs_with_residue, residue
from .services import SERVICES
from .settings import check_lab_name

Command = Callable[..., None]

DEFAULT_LAB = "lab"


def _print(output_format: str, value: Any, lines: list[str]) -> None:
    click.echo(json.dumps(value, indent=2) if output_format == "json" else "\n".join(lines))


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    return [name for name in value.split(",") if name]


def _format_option(function: Command) -> Command:
    choice = click.Choice(["text", "json"])
    return click.option("--format", "output_format", type=choice, default="text", help="How to print the result.")(
        function
    )


def _lab_option(function: Command) -> Command:
    return click.option("--lab", "name", default=DEFAULT_LAB, show_default=True, help="Which lab.")(function)


def _errors(function: Command) -> Command:
    """Show what is expected to go wrong as one line."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            require_root()
            function(*args, **kwargs)
        except LabError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise click.ClickException(str(error)) from error

    return wrapped


def _status_lines(status: dict[str, Any]) -> list[str]:
    lines = [f"lab {status['name']}" + ("" if status["ready"] else " (not ready)")]
    for host in status["hosts"]:
        power = f"pid {host['pid']}" if host["powered"] else "powered off"
        lines.append(f"  {host['name']:<12} {host['address']:<12} {host['kind']:<7} {power}")
        if host["dockerd_log"]:
            lines.append(f"  {'':<12} log {host['dockerd_log']}")
    for link in status["links"]:
        measured = link["measured"]
        figures = "not measured"
        if measured:
            figures = f"measured {measured['bit_per_s'] / 1e6:.1f} Mbit/s, {measured['rtt_s'] * 1e3:.2f} ms"
        state = "" if link["up"] else ", DOWN"
        loss = f", loss {link['loss']:.2%}" if link["loss"] else ""
        lines.append(f"  {link['a']} - {link['b']} ({link['backend']}): {figures}{loss}{state}")
    return lines


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Real Docker hosts on this machine, with shaped links and faults."""


@main.command()
@_format_option
@_errors
def prepare(output_format: str) -> None:
    """Make what labs need, if the cache lacks it: root file systems, Python packages, service images."""
    paths = prepare_all(report=lambda text: click.echo(text, err=True))
    _print(output_format, paths, [f"{name:<16} {path}" for name, path in paths.items()])


@main.command()
@_lab_option
@click.option("--hosts", default="edge-a,edge-b", show_default=True, callback=_names, help="Hosts with Docker.")
@click.option("--clients", default="", callback=_names, help="Hosts without Docker; their links are not shaped.")
@click.option("--rate", help="Of the links between hosts, as 20mbit.")
@click.option("--rtt", help="Round trip of the links between hosts, as 50ms.")
@click.option("--loss", help="Share of packets lost each way between hosts, as 1%.")
@click.option("--image-store", type=click.Choice(IMAGE_STORES), default="classic", show_default=True)
@click.option("--segment", is_flag=True, help="Also join all hosts by a layer-2 network for containers.")
@_format_option
@_errors
def up(name: str, output_format: str, **options: Any) -> None:
    """Make a lab, and measure its links."""
    status = Lab.up(name, **options).status()
    _print(output_format, status, _status_lines(status))


@main.command()
@_lab_option
@click.option("--all", "all_labs", is_flag=True, help="All labs, and whatever is left of former ones.")
@_format_option
@_errors
def down(name: str, all_labs: bool, output_format: str) -> None:
    """Remove a lab and all that is left of it."""
    names = labs_with_residue() if all_labs else [check_lab_name(name)]
    if not all_labs and not residue(name):
        raise UsageError(
            f"there is no lab {name!r} (up: {', '.join(Lab.names()) or 'none'}), nor is anything left of it"
        )
    left: dict[str, list[str]] = {}
    for each in names:
        Lab.forget(each)
        left[each] = residue(each)
    _print(output_format, {"removed": names, "left": left}, [f"removed {each}" for each in names] or ["no lab is up"])
    remaining = [line for lines in left.values() for line in lines]
    if remaining:
        raise LabError(f"still there: {', '.join(remaining)}")


@main.command()
@click.option("--lab", "name", help="Which lab; all by default.")
@_format_option
@_errors
def status(name: str | None, output_format: str) -> None:
    """Show what is up, where logs are, and what links were measured to do."""
    found = [Lab.attach(each).status() for each in ([name] if name else Lab.names())]
    lines = [line for each in found for line in _status_lines(each)]
    _print(output_format, found, lines or ["no lab is up"])


@main.command("exec", context_settings={"ignore_unknown_options": True})
@_lab_option
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_format_option
@_errors
def exec_(name: str, host: str, command: tuple[str, ...], output_format: str) -> None:
    """Run COMMAND in HOST; ends as it does. With --format json its output is part of the result."""
    start = partial(Lab.attach(name).host(host).popen, command)
    try:
        if output_format == "json":
            ended = _captured(start)
            _print("json", ended, [])
            sys.exit(ended["exit_code"])
        sys.exit(run_in_foreground(start))
    except FileNotFoundError as error:
        raise LabError(f"{host} has no program {command[0]}") from error


def _captured(start: Callable[..., subprocess.Popen[bytes]]) -> dict[str, Any]:
    """Run a program in the foreground, but for what it writes."""
    with TemporaryFile() as out, TemporaryFile() as err:
        code = run_in_foreground(partial(start, stdin=subprocess.DEVNULL, stdout=out, stderr=err))
        out.seek(0)
        err.seek(0)
        texts = [file.read().decode(errors="replace") for file in (out, err)]
    return {"exit_code": code, "stdout": texts[0], "stderr": texts[1]}


@main.command()
@_lab_option
@click.argument("a")
@click.argument("b")
@click.option("--rate", help="As 20mbit, or none.")
@click.option("--rtt", help="As 50ms, or none.")
@click.option("--loss", help="As 1%, or none.")
@click.option("--down", "switch", flag_value="down", help="Cut it.")
@click.option("--up", "switch", flag_value="up", help="Heal it.")
@_format_option
@_errors
def link(name: str, a: str, b: str, switch: str | None, output_format: str, **shape: str | None) -> None:
    """Change the link between hosts A and B, and measure it; without options, only measure it."""
    lab = Lab.attach(name)
    handle = lab.link(a, b)
    if switch == "down":
        handle.down()
    elif switch == "up":
        handle.up()
    if any(shape.values()):
        handle.shape(**{key: _or_none(value) for key, value in shape.items()})
    elif switch is None:
        handle.measure()
    found = next(each for each in lab.status()["links"] if {each["a"], each["b"]} == {a, b})
    _print(output_format, found, _status_lines({"name": name, "ready": True, "hosts": [], "links": [found]})[1:])


def _or_none(value: str | None) -> Any:
    if value is None:
        return KEEP
    return None if value == "none" else value


@main.command("power-off")
@_lab_option
@click.argument("host")
@_format_option
@_errors
def power_off(name: str, host: str, output_format: str) -> None:
    """Let HOST fail: all in it dies at once and in silence, its disk stays."""
    Lab.attach(name).power_off(host)
    _print(output_format, {"host": host, "powered": False}, [f"{host} is off"])


@main.command("power-on")
@_lab_option
@click.argument("host")
@_format_option
@_errors
def power_on(name: str, host: str, output_format: str) -> None:
    """Start HOST again, with the disk it had."""
    Lab.attach(name).power_on(host)
    _print(output_format, {"host": host, "powered": True}, [f"{host} is on"])


@main.command()
@_lab_option
@click.argument("host")
@click.argument("service", type=click.Choice(list(SERVICES)))
@click.option("--name", "container", help="Name of the container; the service's by default.")
@_format_option
@_errors
def service(name: str, host: str, service: str, container: str | None, output_format: str) -> None:
    """Start SERVICE in a container of HOST, reachable at the host's address."""
    identity = Lab.attach(name).service(host, service, name=container)
    _print(output_format, {"host": host, "service": service, "container": identity}, [identity])


@main.command()
@_lab_option
@click.argument("hosts", nargs=-1, required=True)
@_format_option
@_errors
def deploy(name: str, hosts: tuple[str, ...], output_format: str) -> None:
    """Install this checkout's streamhop into HOSTS."""
    lab = Lab.attach(name)
    for host in hosts:
        deploy_to(lab.host(host))
    _print(output_format, {"deployed": list(hosts)}, [f"deployed to {', '.join(hosts)}"])


if __name__ == "__main__":
    main()
