"""Check the machines that are to train: what is wrong, and what mends it.

python -m dist_vgg.doctor                                   this machine, one rank
python -m dist_vgg.doctor -n 8 --data data --out runs       8 ranks here
python -m dist_vgg.doctor --hostfile hosts --data data      ranks on several machines
mpirun -n 8 python -m dist_vgg.doctor                       the ranks of a start of your own
srun --mpi=pmi2 python -m dist_vgg.doctor                   likewise
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dist_vgg.base.command_line import INFORMS, run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable, write_text
from dist_vgg.doctor import report
from dist_vgg.doctor.examination import examine, judge
from dist_vgg.doctor.findings import FAULT
from dist_vgg.doctor.options import own_parser
from dist_vgg.doctor.start import start
from dist_vgg.kernels import sets
from dist_vgg.mpi.collectives import collective_errors
from dist_vgg.mpi.command import run_command
from dist_vgg.recovery.watchdog import watched

if TYPE_CHECKING:
    from mpi4py import MPI

STARTS = ("n", "hostfile", "mpirun")  # options of a start without mpirun
TIMEOUT = 60.0  # seconds without progress, after which the silent rank is named


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Examine the ranks of this job; returns the exit status."""
    with collective_errors(comm):
        options = own_parser().parse_args(argv)
        if options.json and comm.rank == 0:
            check_writable("--json", options.json)
    _compile_kernels()
    with watched(comm, TIMEOUT) as beat:
        world = examine(comm, options, beat)
    findings = judge(world)
    print(report.text(world, findings), flush=True)
    if options.json and comm.rank == 0:
        write_text(options.json, json.dumps(report.as_json(world, findings), indent=2) + "\n")
    return UserError.status if any(finding.level == FAULT for finding in findings) else 0


def _compile_kernels() -> None:
    """Have them compiled before anybody watches, since that takes its time."""
    try:
        sets.load(sets.AUTO)
    except UserError:
        return  # a finding, later


def begin(argv: Sequence[str]) -> int:
    """Start ranks, for whoever has started none; returns the exit status."""
    options = own_parser().parse_args(argv)
    handed_on = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items()
                 if value is not None and name not in STARTS]  # fmt: skip
    return start(options, handed_on)


def is_start(argv: Sequence[str]) -> bool:
    """Whether the options ask for ranks, and nobody has started us as one."""
    asks = any(word.partition("=")[0] in ("-n", "--hostfile", "--mpirun") or word.startswith("-n")
               for word in argv)  # fmt: skip
    return asks and not INFORMS & set(argv)


if __name__ == "__main__":
    if is_start(sys.argv[1:]):
        run_alone("dist_vgg.doctor", begin)
    # Catching faults is the point, so that ranks which don't belong together are not turned away.
    run_command("dist_vgg.doctor", main, own_parser, checks=False)
