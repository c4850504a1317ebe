"""Waiting for other ranks without burning their cores, and failing together.

MPI's blocking calls spin. With more ranks than cores a waiting rank then takes the core of
one that computes, so every wait in this project is a non-blocking call that is polled here.
"""

import hashlib
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

import dist_vgg
from dist_vgg.base.command_line import INFORMS, Parser
from dist_vgg.base.errors import KILLED_BY, RankError, UserError

if TYPE_CHECKING:
    from mpi4py import MPI

SHORTEST_NAP, LONGEST_NAP = 50e-6, 1e-3  # seconds
LAST_WORDS = 0.2  # seconds in which mpirun hands on what a rank has said, before it ends the job

_listeners: list[Callable[[bool], object]] = []


@contextmanager
def told(listener: Callable[[bool], object]) -> Iterator[None]:
    """During the block, call `listener` with True and False around each wait for other ranks."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def waiting() -> Iterator[None]:
    """What is inside waits for other ranks."""
    for listener in _listeners:
        listener(True)
    try:
        yield
    finally:
        for listener in _listeners:
            listener(False)


def wait(request: "MPI.Request") -> None:
    """Wait for a non-blocking MPI call, sleeping between looks; from 50 us up to 1 ms."""
    nap = SHORTEST_NAP
    with waiting():
        while not request.Test():
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)


def barrier(comm: "MPI.Intracomm") -> None:
    """Wait until every rank is here."""
    wait(comm.Ibarrier())


def add_up(comm: "MPI.Intracomm", values: np.ndarray) -> np.ndarray:
    """Sum an array over the ranks, in place.

    The result depends on no order of the ranks where each entry is non-zero on one rank
    only, and that is how this project uses it.
    """
    from mpi4py import MPI

    wait(comm.Iallreduce(MPI.IN_PLACE, values, op=MPI.SUM))
    return values


def gather_texts(comm: "MPI.Intracomm", text: str) -> list[str]:
    """Every rank's text, on every rank, in order of rank."""
    data = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    sizes = np.zeros(comm.size, np.int64)
    sizes[comm.rank] = len(data)
    add_up(comm, sizes)
    everything = np.empty(int(sizes.sum()), np.uint8)
    wait(comm.Iallgatherv(data, [everything, sizes.tolist()]))
    ends = np.cumsum(sizes)
    return [
        everything[end - n : end].tobytes().decode(errors="surrogateescape")
        for end, n in zip(ends, sizes, strict=True)
    ]


def share_text(comm: "MPI.Intracomm", text: str) -> str:
    """Rank 0's text, on every rank."""
    return gather_texts(comm, text if comm.rank == 0 else "")[0]


class Launched(NamedTuple):
    """What the launcher says of this process, whatever MPI makes of it."""

    rank: int
    size: int  # of the ranks that it has started, at least
    launcher: str  # "mpirun", "srun", or "" where nothing has started this process as a rank
    speaks: bool  # for all of them, where MPI doesn't connect them


def launched() -> Launched:
    """What has started this process; of an mpirun within an srun, the mpirun.

    SLURM_NTASKS is not asked: a batch script and all that it starts have it as well.
    """
    # mpirun's, and srun's with PMI; and srun's own, which the ranks of an mpirun inherit.
    pairs = {
        name: (os.environ.get(rank, ""), os.environ.get(size, ""))
        for name, rank, size in (
            ("open mpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
            ("pmi", "PMI_RANK", "PMI_SIZE"),
            ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        )
    }
    for pair in pairs.values():
        with suppress(ValueError):
            number, count = map(int, pair)
            launcher = "srun" if pair == pairs["srun"] else "mpirun"
            return Launched(number, count, launcher, speaks=number == 0)
    with suppress(KeyError, ValueError):
        number = int(os.environ["PMIX_RANK"])  # PMIx tells no size, so rank 0 may be alone
        return Launched(number, number + 1, "mpirun", speaks=number <= 1)
    return Launched(0, 1, "", speaks=True)


@contextmanager
def together(comm: "MPI.Intracomm") -> Iterator[None]:
    """A UserError inside, on whichever ranks, becomes the same UserError on every rank.

    So does what the operating system says of a file. A mistake that not all hosts have names
    those that do. All ranks must enter and leave; nothing inside may wait for another rank.
    """
    from mpi4py import MPI

    mistake = ""
    try:
        yield
    except UserError as error:
        mistake = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        mistake = f"can't use {error.filename}: {error.strerror}"
    mistakes = gather_texts(comm, mistake)
    first = next(filter(None, mistakes), "")
    if first:
        hosts = gather_texts(comm, MPI.Get_processor_name())
        theirs = [host for host, text in zip(hosts, mistakes, strict=True) if text == first]
        some = set(theirs) != set(hosts)
        raise UserError(f"on {', '.join(dict.fromkeys(theirs))}: {first}" if some else first)


def require_same(comm: "MPI.Intracomm", facts: Mapping[str, object], mend: str) -> None:
    """Raise UserError on every rank where ranks differ in a fact: the first such, both values.

    Ranks that were started unlike each other would train together without a word, since all get
    the same sums. `mend` says what is to be done about it.
    """
    from mpi4py import MPI

    about = [MPI.Get_processor_name(), {name: str(value) for name, value in facts.items()}]
    everyone = []
    for text in gather_texts(comm, json.dumps(about)):
        try:
            host, values = json.loads(text)
        except ValueError:  # an earlier version of this program, which compares nothing
            host, values = "another host", {}
        everyone.append((host, values))
    for name in dict.fromkeys(name for _, values in everyone for name in values):
        found = [values.get(name, "not given") for _, values in everyone]
        other = next((rank for rank, value in enumerate(found) if value != found[0]), 0)
        if other:
            each = (f"{found[r]} for rank {r} on {everyone[r][0]}" for r in (0, other))
            raise UserError(f"ranks differ in {name}: {', '.join(each)}; {mend}")


def program_facts() -> dict[str, object]:
    """The versions of what computes, this program's with a checksum over its source."""
    digest = hashlib.sha256()
    folder = Path(dist_vgg.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        # Editors leave files of their own beside, whose names begin with a dot.
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            digest.update(path.read_bytes())
    return {
        "the version of dist_vgg": f"{dist_vgg.__version__} (source {digest.hexdigest()[:8]})",
        "the version of NumPy": np.__version__,
    }


def tell(words: str) -> None:
    """Write a line to stderr, whole: ranks that speak at the same time are read one by one."""
    # `print` writes words and line end apart, and another rank's words come between.
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def run_alone(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command that is one process and needs no MPI; end the process with its status.

    Of several that srun has started the first one works, since a shell may be one of them.
    """
    argv = sys.argv[1:]
    rank, size, launcher, speaks = launched()
    if size > 1 and launcher == "mpirun" and not INFORMS & set(argv):
        if speaks:
            command = name.rpartition(".")[2]
            tell(f"{name}: error: {command} is one process: start it without mpirun")
        sys.exit(UserError.status)
    sys.exit(0 if rank else guarded(name, lambda: main(argv)))


def guarded(name: str, call: Callable[[], int]) -> int:
    """The status that a command of one process ends with; a mistake is told in one line."""
    try:
        status = call()
        sys.stdout.flush()
    except UserError as error:
        tell(f"{name}: error: {error}")
        return error.status
    except KeyboardInterrupt:
        tell(f"{name}: interrupted")
        return KILLED_BY + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone, as in `| head`; there is nobody to tell.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        return KILLED_BY + signal.SIGPIPE
    except OSError as error:
        if error.filename is None:
            raise
        tell(f"{name}: error: can't use {error.filename}: {error.strerror}")
        return UserError.status
    return status


def run_command(
    name: str,
    main: "Callable[[Sequence[str], MPI.Intracomm], int]",
    parser: Callable[[], Parser] | None = None,
) -> NoReturn:
    """Run a command on every rank and end the process, so that no rank is left hanging.

    A UserError must reach all ranks (see `together`); it is printed once, and the status is 2,
    or its own.
    Any other exception ends the whole job with that rank's traceback and status 1. With its
    `parser` the command shows its --help and --version where there is no MPI, too.
    """
    # Open MPI's wheel tries UCX for windows and complains where there is none; the windows
    # here are shared memory, which needs no network.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    argv, started = sys.argv[1:], launched()
    if parser and INFORMS & set(argv):
        if started.rank:
            sys.exit(0)
        sys.exit(guarded(name, lambda: int(parser().parse_args(argv) is None)))
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if started.speaks:
            tell(f"{name}: error: no MPI library found ({error}); pip install 'dist_vgg[mpich]'")
        sys.exit(2)
    except KeyboardInterrupt as error:
        sys.exit(KILLED_BY + getattr(error, "number", signal.SIGINT))
    comm = MPI.COMM_WORLD
    if comm.size < started.size:
        if started.speaks:
            tell(f"{name}: error: {_strangers(started, comm.size, MPI.Get_library_version())}")
        sys.exit(2)
    if comm.rank:
        # Rank 0 speaks for all; errors of any rank are still heard.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        _forget_names(comm)
        try:
            require_same(comm, program_facts(), "install the same version on every host")
            status = main(argv, comm)
        except SystemExit as end:  # argparse, after --help
            status = int(end.code or 0)
        except UserError as error:
            if comm.rank == 0:
                tell(f"{name}: error: {error}")
            status = error.status
        sys.stdout.flush()
        # Finalize waits for the others, and it spins.
        barrier(comm)
    except BaseException as error:
        _end_job(name, comm, error)
    MPI.Finalize()
    sys.exit(status)


def _strangers(started: Launched, known: int, version: str) -> str:
    """What is wrong where a launcher has started several ranks that MPI doesn't connect."""
    library = " ".join(version.split(",")[0].splitlines()[0].split())
    count = str(started.size) if started.speaks and started.rank == 0 else "several"
    said = f"{started.launcher} has started {count} ranks, and {library} that Python uses"
    if started.launcher == "srun":
        option = "pmix" if "Open MPI" in library else "pmi2"
        return f"{said} knows of {known}; start them with srun --mpi={option}"
    return f"{said} knows of {known}; use the mpirun that belongs to it"


def _forget_names(comm: "MPI.Intracomm") -> None:
    """Remove the names of MPICH's shared memory, which it would leave behind if it were killed.

    Once every rank has mapped it nobody needs the name, and memory without one lasts until the
    last process that uses it has ended.
    """
    barrier(comm)
    maps = Path("/proc/self/maps")
    if maps.exists():
        for name in set(re.findall(r"/dev/shm/mpich_sh\S+$", maps.read_text(), re.MULTILINE)):
            Path(name).unlink(missing_ok=True)


def _end_job(name: str, comm: "MPI.Intracomm", error: BaseException) -> NoReturn:
    """End the job on all ranks, with this rank's traceback unless a person wished it to end."""
    from mpi4py import MPI

    if isinstance(error, BrokenPipeError):
        # Whoever read our output has gone, as in `| head`; there is nobody to tell.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        status = KILLED_BY + signal.SIGPIPE
    elif isinstance(error, KeyboardInterrupt):
        if comm.rank == 0:
            tell(f"{name}: interrupted")
        status = KILLED_BY + getattr(error, "number", signal.SIGINT)
    elif isinstance(error, RankError):
        sys.stdout.flush()
        tell(f"{name}: error: {error}")
        status = error.status
    else:
        where = f"rank {comm.rank} on {MPI.Get_processor_name()}"
        sys.stdout.flush()
        tell(f"{where} failed:\n{''.join(traceback.format_exception(error))}")
        status = 1
    if comm.size > 1:
        time.sleep(LAST_WORDS)
        comm.Abort(status)
    sys.exit(status)
