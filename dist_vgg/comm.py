"""Waiting for other ranks without burning their cores, and failing together.

MPI's blocking calls spin. With more ranks than cores a waiting rank then takes the core of
one that computes, so every wait in this project is a non-blocking call that is polled here.
"""

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from dist_vgg.errors import KILLED_BY, RankError, UserError

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


def launched() -> tuple[int, int]:
    """This process's rank and their number as the launcher has it, which may be another MPI's."""
    for prefix in ("OMPI_COMM_WORLD_", "PMI_"):  # Open MPI's, and MPICH's
        with suppress(KeyError, ValueError):
            return int(os.environ[prefix + "RANK"]), int(os.environ[prefix + "SIZE"])
    return 0, 1


@contextmanager
def together(comm: "MPI.Intracomm") -> Iterator[None]:
    """A UserError inside, on whichever ranks, becomes the same UserError on every rank.

    So does what the operating system says of a file. All ranks must enter and leave; nothing
    inside may wait for another rank.
    """
    mistake = ""
    try:
        yield
    except UserError as error:
        mistake = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        mistake = f"can't use {error.filename}: {error.strerror}"
    mistakes = [text for text in gather_texts(comm, mistake) if text]
    if mistakes:
        raise UserError(mistakes[0])


def tell(words: str) -> None:
    """Write a line to stderr, whole: ranks that speak at the same time are read one by one."""
    # `print` writes words and line end apart, and another rank's words come between.
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def run_command(name: str, main: "Callable[[Sequence[str], MPI.Intracomm], int]") -> NoReturn:
    """Run a command on every rank and end the process, so that no rank is left hanging.

    A UserError must reach all ranks (see `together`); it is printed once, and the status is 2,
    or its own.
    Any other exception ends the whole job with that rank's traceback and status 1.
    """
    # Open MPI's wheel tries UCX for windows and complains where there is none; the windows
    # here are shared memory, which needs no network.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    rank, size = launched()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if rank == 0:
            tell(f"{name}: error: no MPI library found ({error}); pip install 'dist_vgg[mpich]'")
        sys.exit(2)
    except KeyboardInterrupt as error:
        sys.exit(KILLED_BY + getattr(error, "number", signal.SIGINT))
    comm = MPI.COMM_WORLD
    if comm.size < size:
        if rank == 0:
            library = MPI.Get_library_version().split(",")[0].splitlines()[0]
            tell(
                f"{name}: error: mpirun has started {size} ranks, and {library} that Python uses "
                f"knows of {comm.size}; use the mpirun that belongs to it"
            )
        sys.exit(2)
    if comm.rank:
        # Rank 0 speaks for all; errors of any rank are still heard.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        _forget_names(comm)
        try:
            status = main(sys.argv[1:], comm)
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
