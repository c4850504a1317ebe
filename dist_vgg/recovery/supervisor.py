"""The supervisor of a run: starts it again, on the ranks that remain, when one is lost."""

import argparse
import ctypes
import fcntl
import json
import math
import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_vgg.base.command_line import INFORMS, Parser, tell
from dist_vgg.base.errors import (
    KILLED_BY,
    STOPS,
    SUPERVISED,
    Diverged,
    RankError,
    UserError,
    signal_name,
)
from dist_vgg.base.signals import REPEATED
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.folder import has_finished, new_folder
from dist_vgg.runs.recipes import read_toml
from dist_vgg.state import replica

GAVE_UP = 75  # exit status
LONGEST_DELAY = 60  # seconds before a restart
PROBE_SECONDS = 20  # that a host has to answer
LAST_SECONDS = 1  # for ranks to end when there has been a second signal
GRACE = 30  # seconds for processes to be gone
OF_MPI = ("mpich_sh*", "ucx_shm_posix*", "sm_segment*")  # names of its shared memory
YOUNG = 1  # seconds, of such a name
STARTING = 1  # seconds after which mpirun has started ranks, be they here or elsewhere
MOST_REFUSALS = 3  # in a row, by a run that has begun: its files may be back soon
# A line of a hostfile: "host", or "host:4" for MPICH, or "host slots=4" for Open MPI.
HOST = re.compile(r"([^\s:]+)(?::(\d+)|.*?\sslots\s*=\s*(\d+))?")
RANK = re.compile(rb"(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
LIBC = ctypes.CDLL(None)


class Job:
    """All processes of a run on this machine; those of train are its ranks."""

    def __init__(self, folder: Path, module: str) -> None:
        # Slurm would have a start wait for what a lost node still holds of the last one.
        self.environ = {"SLURM_OVERLAP": "1", **os.environ, SUPERVISED: str(folder)}
        # A process keeps it whatever becomes of its parent, its session and its process group.
        self.mark = os.fsencode(f"{SUPERVISED}={folder}")
        self.argv = [b"-m", module.encode()]
        self.names: dict[int, str] = {}  # of the ranks, by pid
        self.dead: list[str] = []  # names of those that have ended, the first one first
        self._ends = select.epoll()  # hands out the ends of ranks in their order
        self._watched: dict[int, int] = {}  # pid of a rank by the descriptor that tells its end
        self.began = time.time()

    def states(self) -> dict[int, str]:
        """The state of each process by its pid: R, S ..., T if stopped. Notes new ranks."""
        states, parents, ranks = {}, {}, {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):  # it ended meanwhile, or is someone else's
                pid, environ = int(path.name), (path / "environ").read_bytes().split(b"\0")
                if self.mark in environ and pid != os.getpid():
                    # "pid (name) state ppid": the name may hold spaces and brackets.
                    stat = (path / "stat").read_text().rpartition(")")[2].split()
                    states[pid], parents[pid] = stat[0], int(stat[1])
                    if (path / "cmdline").read_bytes().split(b"\0")[1:3] == self.argv:
                        numbers = [m[1].decode() for m in map(RANK.fullmatch, environ) if m]
                        ranks[pid] = f"rank {numbers[0]}" if numbers else "a rank"
        for pid in ranks.keys() - self.names.keys():
            # A rank's fork looks like the rank until it becomes another program.
            if parents[pid] not in ranks:
                self.names[pid] = ranks[pid]
                with suppress(OSError, AttributeError):  # it ended, or this Python is too old
                    self._watched[descriptor := os.pidfd_open(pid)] = pid
                    self._ends.register(descriptor, select.EPOLLIN)
        return states

    def start(self, command: Sequence[str], ranks: int) -> None:
        """Start mpirun, in a session of its own: Ctrl-C reaches all of the terminal's."""
        for descriptor in list(self._watched):  # of what was left of an earlier supervisor's job
            self._forget(descriptor)
        self.names, self.dead, self.size = {}, [], ranks
        try:
            self.mpirun = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=self.environ,
                preexec_fn=_save_at_end_of(os.getpid()),
            )
        except OSError as error:
            raise UserError(f"can't start {command[0]}: {error.strerror}") from error

    def watch(self, signals: Sequence[int], stall: float, patience: float) -> str:
        """Wait for the end of mpirun; or what is wrong, where it won't end by itself.

        `signals` is what we have received until now: the first is passed on, politely, and at
        the second nothing is waited for. `stall` and `patience` are seconds, see `main`.
        """
        clock, last, looked, told, death = 0.0, time.monotonic(), -1.0, math.inf, math.inf
        stopped: dict[int, float] = {}  # since when, by pid
        while self.mpirun.poll() is None and len(signals) < 2:
            for descriptor, _ in self._ends.poll(0.05):
                self.dead.append(self.names[self._forget(descriptor)])
            now = time.monotonic()
            # Time in which we were stopped ourselves, as by Ctrl-Z, doesn't count.
            clock, last = clock + min(now - last, 1), now
            if signals and told == math.inf and (self.names or clock > STARTING):
                # Of all, the one at which both MPIs let the ranks take their time; but
                # MPICH's loses it as long as it has started none.
                self.mpirun.send_signal(signal.SIGUSR1)
                told = now
            if clock - looked > (0.05 if clock < 2 else 0.5):
                looked, states = clock, self.states()
                stopped = {p: stopped.get(p, clock) for p, state in states.items() if state == "T"}
                death = min(death, clock) if self.names.keys() - states.keys() else math.inf
            for pid, since in stopped.items():
                # The other ranks, where there are any, know more and speak first.
                if stall and clock - since > stall + patience:
                    name = f"{self.names.get(pid, 'a process')} on {platform.node()}"
                    seconds = f"{clock - since:.0f} s (mpirun was ended)"
                    return f"{name} (pid {pid}) has been stopped for {seconds}"
            if clock - death > patience:
                return self.loss("mpirun was still there and was ended")
        if self.mpirun.poll() is not None:
            return ""
        # To the ranks this is their second signal as well, if it comes late enough: they take their
        # memory along.
        if told == math.inf:
            self.mpirun.send_signal(signal.SIGUSR1)
            told = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            self.mpirun.wait(max(0.0, told + REPEATED - time.monotonic()))
        self.mpirun.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.mpirun.wait(LAST_SECONDS)
        return "ended by a second signal"

    def clear_away(self) -> None:
        """Kill all that is left, stopped or not, and wait until it is gone."""
        end = time.monotonic() + GRACE
        while left := self.states():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                raise UserError(f"can't kill {', '.join(map(str, left))}, of the last start")
            time.sleep(0.02)
        _unlink_unused_memory(self.began)

    def end(self) -> int:
        """Leave nothing behind; mpirun's status as the shell has it."""
        if self.mpirun.poll() is None:
            self.mpirun.kill()
        status = self.mpirun.wait()
        self.clear_away()
        with suppress(ChildProcessError):  # orphans have become our children
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for descriptor in list(self._watched):
            self._forget(descriptor)
        return status if status >= 0 else 128 - status

    def loss(self, ending: str) -> str:
        """That a rank was lost, in words, with the one that ended first, if all were seen.

        Most of the time that is the one: the others are killed when MPI has noticed.
        """
        seen = self.dead and len(self.names) == self.size
        return f"a rank lost ({f'{self.dead[0]} ended first; ' if seen else ''}{ending})"

    def _forget(self, descriptor: int) -> int:
        self._ends.unregister(descriptor)
        os.close(descriptor)
        return self._watched.pop(descriptor)


def _unlink_unused_memory(since: float) -> None:
    """Remove the shared memory of MPI that nobody uses: of ranks killed while it started."""
    left = []
    for path in (path for pattern in OF_MPI for path in replica.SHM.glob(pattern)):
        with suppress(OSError):
            status = path.stat()
            # A younger one may be of another job, whose ranks have not mapped it yet.
            if status.st_uid == os.geteuid() and since <= status.st_mtime < time.time() - YOUNG:
                left.append(path)
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if left else ():
        with suppress(OSError):
            text = maps.read_text(errors="replace")
            used |= {path for path in left if str(path) in text}
    for path in left:
        if path not in used:
            path.unlink(missing_ok=True)


def _save_at_end_of(parent: int) -> Callable[[], None]:
    """What has a child told to save and stop when this process is killed."""

    def call() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGUSR1))
        if os.getppid() != parent:
            os._exit(1)

    return call


class Hosts:
    """The machines of a run, by --hostfile or Slurm; none where mpirun is told of none."""

    def __init__(self, hostfile: str | None, ranks: int) -> None:
        lines: list[str] = []
        try:
            if hostfile:
                lines = Path(hostfile).read_text().splitlines()
            elif int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) > 1:
                command = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
                lines = subprocess.check_output(command, text=True).splitlines()
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            raise UserError(f"can't read the hosts: {error}; see --hostfile") from error
        if hostfile and not any(line.partition("#")[0].strip() for line in lines):
            raise UserError(f"--hostfile {hostfile} names no host")
        self.options = ["-hostfile", hostfile] if hostfile else []  # of mpirun
        lines = [line.partition("#")[0].strip() for line in lines]
        found = [HOST.match(line) for line in lines if line]
        hosts = [match for match in found if match]
        share = math.ceil(ranks / max(1, len(hosts)))
        self.names = [match[1] for match in hosts]
        self.slots = [int(match[2] or match[3] or share) for match in hosts]
        if 0 < sum(self.slots) < ranks:  # mpirun, if it takes that, goes round again
            rounds = math.ceil(ranks / sum(self.slots))
            self.slots = [rounds * count for count in self.slots]

    def probe(self, mpirun: Sequence[str], job: Job, over: Callable[[], bool]) -> list[int]:
        """The slots of each host, 0 where it doesn't answer. Asks until it is over."""
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        calls = {
            name: subprocess.Popen(
                [*mpirun, "-n", "1", "-host", name, "true"], **quiet, env=job.environ
            )
            for name in dict.fromkeys(self.names)
        }
        everyone = list(calls.values())
        pause(PROBE_SECONDS, lambda: over() or all(call.poll() is not None for call in everyone))
        for call in calls.values():
            call.kill()
        silent = [name for name, call in calls.items() if call.wait()]
        job.clear_away()
        if silent and not over():
            say(f"no answer from {', '.join(silent)}")
        slots = zip(self.names, self.slots, strict=True)
        return [0 if name in silent else count for name, count in slots]

    def use(self, slots: Sequence[int], ranks: int) -> None:
        """Have mpirun use so many of the slots, spread as `spread` does."""
        counts = zip(self.names, spread(slots, ranks), strict=True)
        # Under Slurm, of all ways to say it, this is the one that both MPIs follow.
        self.options = ["-host", ",".join(f"{name}:{count}" for name, count in counts if count)]


def spread(slots: Sequence[int], ranks: int) -> list[int]:
    """So many of the slots, on as many hosts as there can be: each holds a part of the state."""
    counts = list(slots)
    for _ in range(sum(slots) - ranks):
        fullest = max(range(len(counts)), key=lambda host: (counts[host], host))
        counts[fullest] -= 1
    return counts


class Log:
    """RUN/elastic.jsonl, a line for each event; whoever has it open has the run to himself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "elastic.jsonl").open("a")
        except OSError as error:
            raise UserError(f"can't use the run's folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder} is looked after by another dist_vgg.elastic") from error
        except OSError:  # the file system knows no locks, so nobody can be kept out
            pass

    def write(self, event: str, **fields: Any) -> None:
        """Record an event, with its time in seconds since 1970."""
        with suppress(OSError):  # a full disk is no reason to give up
            record = dict(time=round(time.time(), 3), event=event, **fields)
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Leave no file that only we need, and no folder in which no run began."""
        with suppress(OSError):  # the folder may have gone, or the disk be full
            if [path.name for path in self.folder.iterdir()] == ["elastic.jsonl"]:
                (self.folder / "elastic.jsonl").unlink()
                self.folder.rmdir()
        self._file.close()


@dataclass(frozen=True)
class End:
    """How a start has ended."""

    status: int  # mpirun's, as the shell has it
    step: int  # the last one that is recorded
    final: bool  # nothing is to be started again
    signal: int  # that told the job to stop, and not us
    lost: int  # ranks
    why: str


class Supervisor:
    """All starts of a run, one after the other."""

    def __init__(
        self,
        own: argparse.Namespace,
        train: list[str],
        signals: Sequence[int],
        module: str,
        patience: float,
    ) -> None:
        """`signals` is what this process has received, at any moment."""
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
        self.job, self.log = Job(self.folder, module), Log(self.folder)
        self.signals = signals
        self.refusals = 0  # in a row: ends with the status of a user's mistake
        self.noticed = time.monotonic()  # that there is something to start

    def run(self) -> int:
        """Start until training has finished; returns the exit status."""
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            status = self._run()
            self.log.write("exit", status=status)
            return status
        finally:
            self.log.close()

    def _run(self) -> int:
        if self.job.states():
            say("waiting for the job of an earlier start, which lost its supervisor")
            pause(GRACE, lambda: self._over() or not self.job.states())
            self.job.clear_away()
        own, wanted, why = self.own, self.own.n, ""
        best, idle = last_step(self.folder), 0  # idle: restarts since the last progress
        for restart in range(own.max_restarts + 1):
            ranks = wanted
            if restart:
                delay = min(2 ** (idle - 1), LONGEST_DELAY) if idle else 0
                ranks = self._prepare(restart, wanted, delay, why)
                idle += 1
            if self._over():
                return self._stopped()
            if ranks < own.min_ranks:
                why = "too few slots remain"
                continue
            end = self._start(restart, ranks)
            if end.final:
                return end.status
            if self._over() or end.signal:
                return self._stopped(end.signal)
            if not (restart or self.job.names or self.hosts.names):
                raise UserError(f"mpirun started no rank, and ended with {end.status}")
            why = f"{end.why} after step {end.step}"
            wanted = own.n if own.replace else max(ranks - end.lost, own.min_ranks)
            if end.step > best:
                best, idle = end.step, 0
        tell(f"dist_vgg.elastic: gave up after {own.max_restarts} restarts: {why}; {self.again}")
        return GAVE_UP

    def _over(self) -> bool:
        return bool(self.signals)

    def _stopped(self, number: int = 0) -> int:
        """Say by which signal, ours if not that of the job; the exit status."""
        number = number or self.signals[0]
        say(f"stopped by {signal_name(number)} after step {last_step(self.folder)}; {self.again}")
        return KILLED_BY + number

    def _prepare(self, restart: int, wanted: int, delay: float, why: str) -> int:
        """Ask the hosts, and wait; so many ranks, of those wanted, as there are slots for."""
        hosts = self.hosts
        slots = hosts.probe(self.mpirun, self.job, self._over) if hosts.names else [wanted]
        ranks = min(wanted, sum(slots))
        if restart == 1 and not (ranks or last_step(self.folder) or self._over()):
            raise UserError(f"no host answers of {', '.join(hosts.names)}; see --hostfile")
        enough = ranks >= self.own.min_ranks
        what = f"starting again on {ranks} rank{'s' * (ranks != 1)}" if enough else "waiting"
        when = f" in {delay} s" if delay else ""
        if not self._over():
            say(f"{why}; {what}{when}, restart {restart} of {self.own.max_restarts}")
        pause(delay, self._over)
        if hosts.names:
            hosts.use(slots, ranks)
        return ranks

    def _start(self, restart: int, ranks: int) -> End:
        """Start the job, watch it to its end, and leave nothing of it."""
        job, known = self.job, self.known
        command = [*self.mpirun, *self.hosts.options, "-n", str(ranks), sys.executable]
        command += ["-m", self.module, *self.train]
        command += [] if known.resume and not restart else ["--resume", "if-any"]
        job.start(command, ranks)
        seconds = round(time.monotonic() - self.noticed, 3)
        self.log.write("start", restart=restart, ranks=ranks, seconds=seconds)
        try:
            trouble = job.watch(self.signals, known.stall_timeout, self.patience)
            self.noticed = time.monotonic()
        finally:
            status = job.end()
        final, number = self._is_final(status, restart), self._job_signal(status)
        lost, why = judge(status, trouble, job)
        why = "" if final or number or self._over() else why
        end = End(status, last_step(self.folder), final, number, lost, why)
        self.log.write("ended", status=status, step=end.step, ranks=ranks, why=why)
        return end

    def _is_final(self, status: int, restart: int) -> bool:
        """Whether nothing is to be started again after this status of mpirun."""
        self.refusals = self.refusals + 1 if status == UserError.status else 0
        if status == UserError.status:
            # What was right at the first start is not the user's mistake at a later one.
            return restart == 0 or self.refusals >= MOST_REFUSALS
        # Open MPI's mpirun ends with 0, too, where a node under Slurm is lost.
        return status == Diverged.status or (status == 0 and has_finished(self.folder))

    def _job_signal(self, status: int) -> int:
        """The signal at which the job has stopped, told by others than us; 0 where it was none."""
        if self._over() or not status:
            return 0
        for number in STOPS:
            if status == KILLED_BY + number:
                return number
        # Open MPI's mpirun has its own status at Ctrl-C.
        return int(last_record(self.folder).get("signal", 0))


def judge(status: int, trouble: str, job: Job) -> tuple[int, str]:
    """How many ranks count as lost, and what has happened, in words."""
    ending = f"(mpirun ended with {status})"
    if trouble:
        return 1, trouble
    if status in (0, 1, 255) or job.mpirun.returncode < 0:
        # 255 is mpirun's own, as where it can't reach a host
        who = {0: "training has not finished", 1: "a rank failed"}.get(status, "mpirun failed")
        return 0, f"{who} {ending}"
    if status == UserError.status:
        return 0, f"it can't go on {ending}"
    if status == RankError.STALLED:
        return 1, f"a rank stalled {ending}"
    if status == RankError.CORRUPT:
        return 0, f"checksums or replicas disagree {ending}"
    # A rank killed by signal n: MPICH ends with n, Open MPI with 128 + n.
    return 1, job.loss(f"mpirun ended with {status}")


def say(words: str) -> None:
    """Print a line of our own, below the job's live line where there is one."""
    try:
        print(("\n" if sys.stdout.isatty() else "") + f"elastic: {words}", flush=True)
    except OSError:  # whoever read it has gone, as in `| head`, or the terminal; the ranks go on
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


def pause(seconds: float, over: Callable[[], bool]) -> None:
    """Sleep for so long, or until it is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not over():
        time.sleep(0.05)


def last_step(folder: Path) -> int:
    """The last step that the run has recorded, or 0."""
    return int(last_record(folder).get("step", 0))


def last_record(folder: Path) -> dict[str, Any]:
    """The last record of a run that is whole, or an empty one."""
    with suppress(OSError), (folder / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 16)))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError, KeyError, TypeError):  # torn by the end of its writer
                record = json.loads(line)
                return {**record, "step": int(record["step"])}
    return {}


def find_mpirun(wanted: str | None) -> list[str]:
    """The command that starts ranks: --mpirun, or the one of this Python, or that on the path."""
    try:
        name, *options = shlex.split(wanted or "mpirun") or [""]
    except ValueError as error:
        raise UserError(f"--mpirun {wanted}: {error}") from error
    scripts = "" if wanted else sysconfig.get_path("scripts") + os.pathsep
    found = shutil.which(name, path=scripts + os.environ.get("PATH", os.defpath))
    if not found:
        raise UserError(
            f"no {name} found; pip install 'dist_vgg[mpich]', load your cluster's MPI module, "
            "or name it with --mpirun"
        )
    return [found, *options]


def read_train_options(options: Sequence[str]) -> argparse.Namespace:
    """Of train's options those that we must know, and the run's folder."""
    parser = Parser(prog="python -m dist_vgg.train", add_help=False)
    parser.add_argument("--out")
    parser.add_argument("--config")
    parser.add_argument("--stall-timeout", type=float)
    parser.add_argument("--resume", nargs="?", const="newest")
    parser.add_argument("--debug", "--pdb", action="store_true")
    known, _ = parser.parse_known_args(options)
    if INFORMS & set(options):
        raise UserError("train's own options are shown by: python -m dist_vgg.train --help")
    if known.debug:
        raise UserError("--debug and --pdb are for one process: python -m dist_vgg.train --debug")
    stored = read_toml(known.config) if known.config else {}
    if known.stall_timeout is None:
        known.stall_timeout = stored.get("stall_timeout", TrainConfig().stall_timeout)
    folder = known.out or stored.get("out")
    if known.resume and not folder:
        raise UserError("name the run to resume with --out")
    known.folder = Path(folder) if folder else None
    return known


def read_own_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options in front of `--`."""
    parser = Parser(
        prog="python -m dist_vgg.elastic",
        hints=dict.fromkeys(("ranks", "np", "workers", "world-size"), "did you mean -n?"),
        usage="%(prog)s -n N [options] -- [options of dist_vgg.train]",
        description="Train under mpirun, and start again on the ranks that remain after a loss.",
        epilog=f"Exit status: train's own, or {GAVE_UP} when restarts are used up.",
    )
    add = parser.add_argument
    add("-n", type=int, required=True, metavar="N", help="ranks to begin with")
    add("--min-ranks", type=int, default=1, metavar="N", help="never fewer (default: 1)")
    add("--max-restarts", type=int, default=10, metavar="N", help="then give up (default: 10)")
    add("--replace", action="store_true", help="as many ranks again after a loss")
    add("--hostfile", metavar="FILE", help="mpirun's, for several machines")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    own = parser.parse_args(argv)
    own.argv = list(argv)
    if own.min_ranks < 1 or own.max_restarts < 0:
        raise UserError("--min-ranks must be at least 1, and --max-restarts at least 0")
    if own.n < own.min_ranks:
        raise UserError(f"-n {own.n} is less than --min-ranks {own.min_ranks}")
    return own
