"""Starting the commands as a user does: with or without mpirun, in their own process."""

import contextlib
import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base import files, signals
from dist_vgg.base.command_line import guarded, tell
from dist_vgg.base.errors import STOPS, RankError

ROOT = Path(__file__).parents[1]
# Open MPI wants to be told what MPICH just does: run as root, and more ranks than cores. MPICH
# would spend an eighth of a small run on networks, which nothing here uses: one of its two modules
# for them starts faster, and UCX, of the other, spins while it patches mmap for network cards.
FOR_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "UCX_MEM_MMAP_HOOK_MODE": "none",
}
FEW_DIGITS = ROOT / "tests" / "few_digits"  # has what stands for scikit-learn's


def command(ranks: int, *arguments: object) -> list[str]:
    """`python ARGUMENTS`, under mpirun where there are several ranks (or -1 for one)."""
    scripts = sysconfig.get_path("scripts")
    mpirun = shutil.which("mpirun", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    assert mpirun, "no mpirun: pip install 'dist_vgg[mpich]'"
    prefix = [] if ranks == 1 else [mpirun, "-n", str(abs(ranks))]
    return [*prefix, sys.executable, *map(str, arguments)]


def start(
    ranks: int, *arguments: object, cwd: Path | None = None, first: Sequence[Path] = ()
) -> "subprocess.Popen[str]":
    """Start a command in a session of its own, so that it can be ended with all its ranks.

    Python looks for modules in `first` before it looks elsewhere.
    """
    return subprocess.Popen(
        command(ranks, *arguments),
        cwd=cwd or ROOT,
        env={**os.environ, **FOR_MPI, "PYTHONPATH": os.pathsep.join(map(str, [*first, ROOT]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_hangups,
    )


def _hear_hangups() -> None:
    """A run of the tests under nohup would have every command ignore them."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def finish(process: "subprocess.Popen[str]", timeout: float = 120) -> tuple[int, str, str]:
    """Wait for a command: status, output and errors. One that hangs is ended, and is an error."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            output, errors = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
        raise AssertionError(f"hung for {timeout} s:\n{output}\n{errors}") from None
    return process.returncode, output, errors


def run(
    ranks: int, *arguments: object, cwd: Path | None = None, first: Sequence[Path] = ()
) -> tuple[int, str, str]:
    """Start a command and wait for its end: status, output and errors."""
    return finish(start(ranks, *arguments, cwd=cwd, first=first))


def here(module: str, *options: object) -> tuple[int, str, str]:
    """Run a command for ranks as the only one, in this process: status, output and errors.

    To start Python and load the command takes longer than a small run does. Whatever it would
    leave to the end of its process is undone.
    """
    from mpi4py import MPI

    main, argv = importlib.import_module(module).main, list(map(str, options))
    usual = {number: signal.getsignal(number) for number in STOPS}
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = guarded(module, lambda: main(argv, MPI.COMM_SELF))
        except RankError as error:
            tell(f"{module}: error: {error}")
            status = error.status
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)
            signals._unlinked_at_interrupt.clear()
            while files._locked:
                os.close(files._locked.popitem()[1])
    return status, output.getvalue(), errors.getvalue()


def train(ranks: int, *options: object) -> tuple[int, str, str]:
    """Train on so many ranks: under mpirun, or 1 of them as `here`, and -1 under mpirun again."""
    if ranks == 1:
        return here("dist_vgg.train", *options)
    return run(ranks, "-m", "dist_vgg.train", *options)


def field(output: str, name: str) -> str:
    """The value behind a name in the table at the end of a command's output."""
    lines = [line for line in output.splitlines() if line.startswith(name + " ")]
    assert lines, f"no {name} in:\n{output}"
    return lines[-1].split(maxsplit=1)[1]


def one_line(errors: str, prefix: Sequence[str] = ("dist_vgg", "data_prep")) -> str:
    """The single line of ours among the errors; the launcher may have added its own."""
    assert "Traceback" not in errors, errors
    lines = [line for line in errors.splitlines() if line.startswith(tuple(prefix))]
    assert len(lines) == 1, errors
    return lines[0]
