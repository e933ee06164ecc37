"""OpenSSH in hosts of a lab, whose root file system lacks it: for tests that compare with what one would use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoplab import Host, prepare
from hoplab.cache import Cache, recipe_key
from hoplab.debian import Overlay, install, run_in
from hoplab.processes import wait_for
from hoplab.rootfs import root_recipe
from hoplab.settings import settings

PACKAGES = ("openssh-client", "openssh-server")
USER_KEY = "/root/.ssh/id_ed25519"
SSHD_READY_S = 10.0

_CONFIG = "/etc/ssh/sshd_of_the_test"
_CONFIGURATION = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
StrictModes no
Subsystem sftp /usr/lib/openssh/sftp-server
UsePAM no
"""


def openssh_files() -> Path:
    """What the packages add to a host's root file system, ``usr`` and ``etc``; made if the cache lacks it."""
    root = prepare().root

    def make(target: Path) -> None:
        overlay = Overlay(root, target / "upper", target / "work", target / "merged")
        for directory in (overlay.upper, overlay.work, overlay.merged):
            directory.mkdir()
        # The root file system has no lists, and those it was made from may be old by now.
        run_in(overlay, ["apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false", "update"])
        install(overlay, PACKAGES)
        for name in ("etc", "usr"):
            (overlay.upper / name).rename(target / name)
        for directory in (overlay.upper, overlay.work, overlay.merged):
            shutil.rmtree(directory)
        for key in (target / "etc/ssh").glob("ssh_host_*"):
            key.unlink()  # each host makes its own

    recipe = {"version": 1, "root": root_recipe(), "packages": PACKAGES}
    return Cache(settings().cache, lambda _: None).get("openssh", recipe_key(recipe), make, "OpenSSH for the hosts")


@contextmanager
def scp_between(client: Host, server: Host) -> Iterator[list[str]]:
    """An sshd on ``server`` that lets root of ``client`` in; yields how the command begins."""
    files = openssh_files()
    for host in (client, server):
        for name in ("etc", "usr"):
            host.put(files / name, f"/{name}")
    client.exec(["mkdir", "-p", "-m", "700", "/root/.ssh"])
    client.exec(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", USER_KEY])
    server.write("/root/.ssh/authorized_keys", client.read(f"{USER_KEY}.pub"), mode=0o600)
    server.exec(["ssh-keygen", "-A"])
    server.write(_CONFIG, _CONFIGURATION)
    server.exec(["mkdir", "-p", "/run/sshd"])
    log = "/var/log/sshd.log"
    with server.popen(["/usr/sbin/sshd", "-D", "-f", _CONFIG, "-E", log]) as sshd:
        try:
            known = client.exec
            wait_for(
                lambda: known(["ssh-keyscan", server.name], check=False).stdout.strip(),
                f"sshd of {server.name} answers",
                SSHD_READY_S,
                0.1,
            )
            client.write("/root/.ssh/known_hosts", client.exec(["ssh-keyscan", server.name]).stdout)
            yield ["scp", "-q", "-B"]
        finally:
            sshd.terminate()
