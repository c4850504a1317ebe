"""Keep a training running: start it again, on the ranks that remain, when one is lost.

python -m dist_vgg.elastic -n 8 -- --data data --out run        8 ranks, then 7, then 6 ...
python -m dist_vgg.elastic -n 8 --replace -- --out run          8 ranks again after each loss

The weights do not depend on the number of ranks, so the result is that of an undisturbed run.
This process uses no MPI, so an MPI that dies does not take it along. It starts mpirun, watches
it, clears away what is left, judges how it ended, and starts it again.
"""

import io
import signal
import sys
from collections.abc import Sequence

from dist_vgg.base.command_line import tell
from dist_vgg.base.errors import STOPS, UserError
from dist_vgg.recovery.options import split_options
from dist_vgg.recovery.supervisor import Supervisor


def main(argv: Sequence[str], module: str = "dist_vgg.train", patience: float = 10) -> int:
    """Run the command; returns its exit status.

    Each rank runs `module`. Once a rank has ended, mpirun has `patience` seconds to end too; once
    one has been stopped for too long, the other ranks have them to say so.
    """
    signals = _note_signals()
    _print_any_path()
    try:
        _require_linux()
        own, train = split_options(argv)
        return Supervisor(own, train, signals, module, patience).run()
    except UserError as error:
        tell(f"dist_vgg.elastic: error: {error}")
        return error.status


def _note_signals() -> list[int]:
    """The signals that ask a run to stop, as this process receives them from now on."""
    received: list[int] = []
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, lambda number, frame: received.append(number))
    return received


def _print_any_path() -> None:
    """Let paths be printed whatever bytes they consist of."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _require_linux() -> None:
    if not sys.platform.startswith("linux"):
        raise UserError(
            "elastic finds processes in Linux's /proc; on this system start dist_vgg.train instead"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
