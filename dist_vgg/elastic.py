"""Keep a training running: start it again, on the ranks that remain, when one is lost.

python -m dist_vgg.elastic -n 8 -- --data data --out run        8 ranks, then 7, then 6 ...
python -m dist_vgg.elastic -n 8 --replace -- --out run          8 ranks again after each loss

The weights depend on no rank count, so the result is that of a run that nothing happened to.
This is a plain process without MPI, which a dying MPI can't take along. Its loop is: start
mpirun, watch, clear away what is left, judge how it ended, start again.
"""

import io
import signal
import sys
from collections.abc import Sequence

from dist_vgg.base.command_line import INFORMS, tell
from dist_vgg.base.errors import (
    STOPS,
    UserError,
)
from dist_vgg.recovery.supervisor import Supervisor, read_own_options


def main(argv: Sequence[str], module: str = "dist_vgg.train", patience: float = 10) -> int:
    """Run the command; returns its exit status.

    `module` is what each rank runs, `patience` the seconds that mpirun has once a rank has
    ended, and the ranks to name a stopped one by themselves.
    """
    signals: list[int] = []
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, lambda number, frame: signals.append(number))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may be of any bytes
    cut = argv.index("--") if "--" in argv else len(argv)
    try:
        if not sys.platform.startswith("linux"):
            raise UserError(
                "this needs Linux, to look after processes; start dist_vgg.train instead"
            )
        if cut == len(argv) and not INFORMS & set(argv):
            raise UserError(
                "train's options go behind --, as in: -n 8 -- --data data; "
                "see python -m dist_vgg.elastic --help"
            )
        own = read_own_options(argv[:cut])
        return Supervisor(own, list(argv[cut + 1 :]), signals, module, patience).run()
    except UserError as error:
        tell(f"dist_vgg.elastic: error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
