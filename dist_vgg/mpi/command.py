"""How a command starts on all ranks, and how it ends on all of them, whatever happens on one."""

import gc
import hashlib
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

import dist_vgg
from dist_vgg.base.command_line import INFORMS, Parser, guarded, tell
from dist_vgg.base.errors import KILLED_BY, RankError, UserError
from dist_vgg.base.launcher import Launched, launched
from dist_vgg.mpi.collectives import barrier, require_same
from dist_vgg.mpi.host import where_is

if TYPE_CHECKING:
    from mpi4py import MPI

LAST_WORDS = 0.2  # seconds in which mpirun hands on what a rank has said, before it ends the job


def program_facts() -> dict[str, object]:
    """The versions of what computes, this program's with a checksum over its source."""
    source = source_sha256(Path(dist_vgg.__file__).parent)
    return {
        "the version of dist_vgg": f"{dist_vgg.__version__} (source {source[:8]})",
        "the version of NumPy": np.__version__,
    }


@cache
def source_sha256(folder: Path) -> str:
    """The checksum over all modules in a folder, without what editors leave there."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        # Editors leave files of their own beside, whose names begin with a dot.
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run_command(
    name: str,
    main: "Callable[[Sequence[str], MPI.Intracomm], int]",
    parser: Callable[[], Parser] | None = None,
    checks: bool = True,
) -> NoReturn:
    """Run a command on every rank and end the process, so that no rank is left hanging.

    A UserError must reach all ranks (see `collective_errors`); it is printed once, and the status
    is its own. Any other exception ends the whole job with that rank's traceback and status 1.
    With its `parser`, the command shows its --help and --version even without MPI. Without
    `checks`, ranks that don't belong together come to `main`, which is to look at them.
    """
    # Open MPI's wheel tries UCX for windows and complains where there is none; the windows
    # here are shared memory, which needs no network.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    argv, started = sys.argv[1:], launched()
    if parser and INFORMS & set(argv):
        if started.rank:
            sys.exit(0)
        sys.exit(guarded(name, lambda: int(parser().parse_args(argv) is None)))
    comm = _start_mpi(name, started, checks)
    if comm.rank:
        # Rank 0 speaks for all; errors of any rank are still heard.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        _unlink_shared_memory(comm)
        try:
            if checks:
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
    from mpi4py import MPI

    MPI.Finalize()
    gc.freeze()  # or for 40 ms the interpreter would search all that is left for cycles
    sys.exit(status)


def _start_mpi(name: str, started: Launched, checks: bool) -> "MPI.Intracomm":
    """All ranks, connected; one line and the end of the process where they can't be.

    Without `checks` the one that speaks for all goes on alone.
    """
    # Of ranks that are not connected mpi4py would say so on each; what we say is one line.
    warnings.filterwarnings("ignore", "suspicious MPI execution environment")
    try:
        _leave_pmix()
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if started.speaks:
            tell(f"{name}: error: no MPI library found ({error}); pip install 'dist_vgg[mpich]'")
        sys.exit(2)
    except KeyboardInterrupt as error:
        sys.exit(KILLED_BY + getattr(error, "number", signal.SIGINT))
    comm = MPI.COMM_WORLD
    if comm.size < started.size and (checks or not started.speaks):
        if started.speaks:
            tell(f"{name}: error: {not_connected(started, comm.size, MPI.Get_library_version())}")
        sys.exit(2 if checks else 0)  # some launchers would end the one that goes on
    return comm


def _leave_pmix() -> None:
    """Have an MPICH that knows no PMIx start alone where PMIx has started this process.

    As with any mpirun that belongs to another MPI, that makes a line of ours; by itself MPICH ends
    the process with words of its own.
    """
    if "PMIX_RANK" not in os.environ:
        return
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True  # the library can be asked before
    from mpi4py import MPI

    version = MPI.Get_library_version().lower()
    if "mpich configure:" in version and "pmix" not in version:
        for name in [name for name in os.environ if name.startswith(("PMIX_", "PRTE_"))]:
            del os.environ[name]
    MPI.Init_thread(MPI.THREAD_MULTIPLE)


def library_name(version: str) -> str:
    """An MPI library's name and version in one line, from all that it says of itself."""
    return " ".join(version.split(",")[0].splitlines()[0].replace("\0", "").split())


def not_connected(started: Launched, known: int, version: str) -> str:
    """What is wrong where a launcher has started several ranks that MPI doesn't connect."""
    library = library_name(version)
    count = str(started.size) if started.speaks and started.rank == 0 else "several"
    said = f"{started.launcher} has started {count} ranks, and {library} that Python uses"
    if started.launcher == "srun":
        option = "pmix" if "Open MPI" in library else "pmi2"
        return f"{said} knows of {known}; start them with srun --mpi={option}"
    return f"{said} knows of {known}; use the mpirun that belongs to it"


def _unlink_shared_memory(comm: "MPI.Intracomm") -> None:
    """Unlink MPICH's shared memory, which a killed rank would leave behind.

    Once every rank has mapped it nobody needs the name, and memory without a name lasts until the
    last process that uses it has ended.
    """
    barrier(comm)
    maps = Path("/proc/self/maps")
    if maps.exists():
        for name in set(re.findall(r"/dev/shm/mpich_sh\S+$", maps.read_text(), re.MULTILINE)):
            Path(name).unlink(missing_ok=True)


def _end_job(name: str, comm: "MPI.Intracomm", error: BaseException) -> NoReturn:
    """End the job on all ranks, with this rank's traceback unless a person wished it to end."""
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
        sys.stdout.flush()
        tell(f"{where_is(comm)} failed:\n{''.join(traceback.format_exception(error))}")
        status = 1
    if comm.size > 1:
        time.sleep(LAST_WORDS)
        comm.Abort(status)
    sys.exit(status)
