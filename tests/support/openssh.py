"""OpenSSH in hosts of a lab, whose root file system lacks it: for tests that compare with what one would use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hoplab import Host
from hoplab.host_tools import install_tools
from hoplab.processes import wait_for

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


@contextmanager
def scp_between(client: Host, server: Host) -> Iterator[list[str]]:
    """An sshd on ``server`` that lets root of ``client`` in; yields how the command begins."""
    for host in (client, server):
        install_tools(host, PACKAGES)
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
