"""The supervisor's policy: when to start a run again, on how many ranks, and when to give up."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import KILLED_BY, STOPS, Diverged, UserError, signal_name
from dist_vgg.mpi.mpirun import find_mpirun
from dist_vgg.recovery.ending import Ending, judge, last_record, last_step
from dist_vgg.recovery.event_log import EventLog
from dist_vgg.recovery.hosts import FIRST_SECONDS, PROBE, Hosts
from dist_vgg.recovery.job import GRACE, Job, adopt_orphans, wait_until
from dist_vgg.recovery.monitor import Monitor
from dist_vgg.recovery.options import GAVE_UP, read_train_options
from dist_vgg.runs.folder import has_finished, new_folder

LONGEST_DELAY = 60  # seconds before a restart
MOST_REFUSALS = 3  # in a row, by a run that has begun: its files may be back soon


@dataclass
class NextStart:
    """What the supervisor knows when it starts the job again."""

    ranks: int  # wanted
    best_step: int  # the last one that any start has recorded
    why: str = ""  # the last start ended
    idle: int = 0  # restarts since the run made progress

    @property
    def delay(self) -> int:
        """Seconds to wait: none while the run makes progress, then 1, 2, 4 ..."""
        return min(2 ** (self.idle - 1), LONGEST_DELAY) if self.idle else 0


class Supervisor:
    """Starts a run, and starts it again until training has finished."""

    def __init__(
        self,
        own: argparse.Namespace,
        train: list[str],
        signals: Sequence[int],
        module: str,
        patience: float,
    ) -> None:
        """`own` and `train` are the options before and after `--`.

        `signals` grows as this process receives signals; `module` and `patience` see
        `elastic.main`.
        """
        self.own, self.module, self.patience = own, module, patience
        self.mpirun, self.hosts = find_mpirun(own.mpirun), Hosts(own.hostfile, own.n)
        self.known = read_train_options(train)
        folder = self.known.folder or new_folder()
        try:
            self.folder = folder.resolve()
        except (OSError, RuntimeError) as error:  # a link that leads to itself
            raise UserError(f"can't use the run's folder {folder}: {error}") from error
        self.train = train if self.known.out else [*train, "--out", str(folder)]
        words = ["python", "-m", "dist_vgg.elastic", *own.argv, "--", *self.train]
        self.again = f"go on with: {shlex.join(words)}"
        self.job, self.log = Job(self.folder, module), EventLog(self.folder)
        self.signals = signals
        self.refusals = 0  # starts in a row that ended with the status of a user's mistake
        self.idle_since = time.monotonic()  # when there was a job to start

    def run(self) -> int:
        """Start the job until training has finished; returns the exit status."""
        adopt_orphans()
        try:
            status = self._start_until_finished()
            self.log.write("exit", status=status)
            return status
        finally:
            self.log.close()

    def _start_until_finished(self) -> int:
        self._end_earlier_job()
        own, upcoming = self.own, NextStart(self.own.n, last_step(self.folder))
        for restart in range(own.max_restarts + 1):
            ranks = self._prepare(restart, upcoming) if restart else self._first_ranks()
            if self._interrupted():
                return self._stopped()
            if ranks < own.min_ranks:
                upcoming.why = "too few slots remain"
                continue
            ending = self._start(restart, ranks)
            if ending.final:
                return ending.status
            if self._interrupted() or ending.signal:
                return self._stopped(ending.signal)
            if not (restart or self.job.names or self.hosts.names):
                raise UserError(f"mpirun started no rank and ended with status {ending.status}")
            upcoming.why = f"{ending.why} after step {ending.step}"
            upcoming.ranks = own.n if own.replace else max(ranks - ending.lost, own.min_ranks)
            if ending.step > upcoming.best_step:
                upcoming.best_step, upcoming.idle = ending.step, 0
        why = upcoming.why
        tell(f"dist_vgg.elastic: gave up after {own.max_restarts} restarts: {why}; {self.again}")
        return GAVE_UP

    def _end_earlier_job(self) -> None:
        """Give the job of a supervisor that was killed the time to save; then kill the rest."""
        if self.job.processes():
            say("waiting for the job of an earlier start, which lost its supervisor")
            wait_until(lambda: self._interrupted() or not self.job.processes(), GRACE)
            self.job.kill_remaining()

    def _interrupted(self) -> bool:
        return bool(self.signals)

    def _stopped(self, number: int = 0) -> int:
        """Say which signal stopped the run, the job's or else ours; returns the exit status."""
        number = number or self.signals[0]
        say(f"stopped by {signal_name(number)} after step {last_step(self.folder)}; {self.again}")
        return KILLED_BY + number

    def _first_ranks(self) -> int:
        """Ask the hosts of a hostfile first, since mpirun's own words on a wrong one help nobody.

        A new run needs all of them; one that has begun goes on with those that answer.
        """
        own, hosts = self.own, self.hosts
        if not own.hostfile:
            return int(own.n)
        silent = hosts.find_silent(self.mpirun, self.job, self._interrupted, FIRST_SECONDS)
        if not silent or self._interrupted():
            return int(own.n)
        names = ", ".join(silent)
        if not last_step(self.folder):
            command = shlex.join(["ssh", silent[0], shlex.join(PROBE)])
            raise UserError(
                f"no answer from {names} of --hostfile {own.hostfile}; see that this works without "
                f"a password: {command}"
            )
        say(f"no answer from {names}")
        slots = hosts.slots_without(silent)
        ranks = min(int(own.n), sum(slots))
        hosts.use(slots, ranks)
        return ranks

    def _prepare(self, restart: int, upcoming: NextStart) -> int:
        """Find the hosts that answer, and wait; returns the ranks that have a slot."""
        slots = self._find_slots() if self.hosts.names else [upcoming.ranks]
        # Each host that answers holds a part of the state that no other has.
        hosts = min(sum(count > 0 for count in slots), self.own.n)
        ranks = min(max(upcoming.ranks, hosts), sum(slots))
        if restart == 1 and not (ranks or last_step(self.folder) or self._interrupted()):
            names = ", ".join(self.hosts.names)
            raise UserError(f"no host answers of {names}; see --hostfile")
        enough = ranks >= self.own.min_ranks
        what = f"starting again on {ranks} rank{'s' * (ranks != 1)}" if enough else "waiting"
        when = f" in {upcoming.delay} s" if upcoming.delay else ""
        if not self._interrupted():
            why, most = upcoming.why, self.own.max_restarts
            say(f"{why}; {what}{when}, restart {restart} of {most}")
        wait_until(self._interrupted, upcoming.delay)
        upcoming.idle += 1
        if self.hosts.names:
            self.hosts.use(slots, ranks)
        return ranks

    def _find_slots(self) -> list[int]:
        """The slots of each host, 0 where it does not answer."""
        silent = self.hosts.find_silent(self.mpirun, self.job, self._interrupted)
        if silent and not self._interrupted():
            say(f"no answer from {', '.join(silent)}")
        return self.hosts.slots_without(silent)

    def _start(self, restart: int, ranks: int) -> Ending:
        """Start the job, watch it to its end, and leave nothing of it behind."""
        job, known = self.job, self.known
        command = [*self.mpirun, *self.hosts.options, "-n", str(ranks), sys.executable]
        command += ["-m", self.module, *self.train]
        command += [] if known.resume and not restart else ["--resume", "if-any"]
        job.start(command, ranks)
        seconds = round(time.monotonic() - self.idle_since, 3)
        self.log.write("start", restart=restart, ranks=ranks, seconds=seconds)
        try:
            trouble = Monitor(job, self.signals, known.stall_timeout, self.patience).wait()
            self.idle_since = time.monotonic()
        finally:
            status = job.end()
        final, number = self._is_final(status, restart), self._signal_of_job(status)
        lost, why = judge(status, trouble, job)
        why = "" if final or number or self._interrupted() else why
        ending = Ending(status, last_step(self.folder), final, number, lost, why)
        self.log.write("ended", status=status, step=ending.step, ranks=ranks, why=why)
        return ending

    def _is_final(self, status: int, restart: int) -> bool:
        """Whether the job must not be started again after this status of mpirun."""
        self.refusals = self.refusals + 1 if status == UserError.status else 0
        if status == UserError.status:
            # What was right at the first start is not the user's mistake at a later one.
            return restart == 0 or self.refusals >= MOST_REFUSALS
        # Open MPI's mpirun ends with 0, too, where a node under Slurm is lost.
        return status == Diverged.status or (status == 0 and has_finished(self.folder))

    def _signal_of_job(self, status: int) -> int:
        """The signal that others than us sent to the job to stop it; 0 if it was none."""
        if self._interrupted() or not status:
            return 0
        for number in STOPS:
            if status == KILLED_BY + number:
                return number
        # Open MPI's mpirun has its own status at Ctrl-C.
        return int(last_record(self.folder).get("signal", 0))


def say(words: str) -> None:
    """Print a line of the supervisor's own, below the job's live line where there is one."""
    try:
        print(("\n" if sys.stdout.isatty() else "") + f"elastic: {words}", flush=True)
    except OSError:  # whoever read it has gone, as in `| head`, or the terminal; the ranks go on
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # of mpirun as well, which would die of its first line
        os.close(nowhere)
