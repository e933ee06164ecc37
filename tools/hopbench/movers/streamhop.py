"""streamhop itself: two paired daemons, one ``streamhop migrate``."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack

from hopbench.deployed import ENVIRONMENT, OBSERVED, SAMPLED, program
from hopbench.figures import Floor
from hopbench.inside.loop_lag import LAG_FILE
from hopbench.lags import lag_ms
from hopbench.usage import cpu_s, reset_peak
from hopbench.workloads import Workload
from hoplab import Host, LabError
from hoplab.edge import EdgeDaemon, Outcome, finish_migrate, pair

from .mover import NAME, TRANSFER_S_MAX, Moved

STAGE_S_MAX = 900.0


class StreamhopMover:
    """Two daemons that stay for many moves.

    :param observed: let the source's daemon take down what pre-copy sends, so that :meth:`floor` can tell what changed.
    """

    def __init__(self, source: Host, target: Host, *, observed: bool) -> None:
        self._source, self._target = source, target
        self._observed = observed
        self._staged = False
        with ExitStack() as stack:
            program_name = OBSERVED if observed else SAMPLED
            self._at_source = stack.enter_context(EdgeDaemon(source, [target.name], program=program_name))
            self._at_target = stack.enter_context(EdgeDaemon(target, [source.name], program=SAMPLED))
            pair(self._at_source, self._at_target)
            self._daemons_end = stack.pop_all()
        self._can_stage = source.exec(["streamhop", "stage", "--help"], check=False).returncode == 0

    def close(self) -> None:
        """End the daemons."""
        self._daemons_end.close()

    @property
    def _hosts(self) -> tuple[Host, Host]:
        return self._source, self._target

    @property
    def _daemons(self) -> tuple[EdgeDaemon, EdgeDaemon]:
        return self._at_source, self._at_target

    def start(self, workload: Workload) -> None:
        """See :class:`.mover.Mover`. The image is at the target, as with every rival."""
        self._target.load(workload.service)
        options = [word for name, value in workload.environment for word in ("--env", f"{name}={value}")]
        self._source.service(workload.service, name=NAME, options=options)
        if self._observed:
            self._source.exec(["rm", "-rf", "/run/hopbench"])

    def ahead(self, *, stage: bool) -> None:
        """Stage, if this streamhop can."""
        self._staged = stage and self._can_stage
        if self._staged:
            self._source.exec(["streamhop", "stage", NAME, self._target.name], timeout=STAGE_S_MAX)

    def move(self) -> Moved:
        """See :class:`.mover.Mover`."""
        for daemon in self._daemons:
            if daemon.process is None:
                raise LabError(f"the daemon of {daemon.host.name} has ended: {daemon.log()[-1000:]}")
            reset_peak(daemon.process.pid)
        counts = [_lag_counts(host) for host in self._hosts]
        began = time.monotonic()
        process = self._at_source.begin_migrate(NAME, self._target.name, stderr=subprocess.PIPE)
        outcome: Outcome = finish_migrate(process, TRANSFER_S_MAX)
        ended = time.monotonic()
        if outcome.exit_code != 0:
            log = self._at_source.log()[-1500:]
            raise LabError(f"the move ended with {outcome.exit_code}: {outcome.remarks.strip()[-500:]} | {log}")
        peaks = [daemon.peak_rss_bytes() for daemon in self._daemons]
        lags = [lag_ms(before, _lag_counts(host)) for before, host in zip(counts, self._hosts, strict=True)]
        return Moved(ended - began, ended, outcome.report, self._staged, *peaks, *lags)

    def cpu_s(self) -> float:
        """Of both daemons and what they started."""
        return sum(cpu_s(daemon.process.pid) for daemon in self._daemons if daemon.process is not None)

    def floor(self) -> Floor | None:
        """What changed since it was last sent, of the last move; ``None`` if it was not observed.

        :raises LabError: what was sent while frozen was not kept.
        """
        if not self._observed:
            return None
        from_host = self._source.exec(program("floor_probe"), env=ENVIRONMENT, timeout=300)
        return Floor(**json.loads(from_host.stdout))

    def clean(self) -> None:
        """See :class:`.mover.Mover`."""
        self._source.exec(["rm", "-rf", "/run/hopbench"])
        for host in self._hosts:
            host.docker("rm", "--force", NAME, check=False)
        if self._staged:
            self._source.exec(["streamhop", "unstage", NAME, self._target.name], check=False)
            self._staged = False


def _lag_counts(host: Host) -> list[int]:
    """How late the loop of the daemon of a host has been so far, see :mod:`hopbench.inside.loop_lag`."""
    return [int(word) for word in host.exec(["od", "-An", "-v", "-tu8", str(LAG_FILE)]).stdout.split()]
