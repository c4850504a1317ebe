"""Break training in every known way, and check that the weights stay the same.

python -m dist_vgg.chaos --trials 32 --seed 1          all kinds of fault, one after the other
python -m dist_vgg.chaos --kinds kill,sigterm          some kinds
python -m dist_vgg.chaos --full --trials 10            the full network
python -m dist_vgg.chaos --list                        the kinds, those for several hosts last

Each trial trains a narrow network on a few images under the supervisor, with one fault at a
moment that depends on the seed and the trial's number alone. Then it compares the trained weights
with those of a run without a fault. Status 0: nothing was wrong.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from dist_vgg.base.command_line import Parser, guarded
from dist_vgg.base.errors import KILLED_BY, UserError
from dist_vgg.base.files import check_writable, write_text
from dist_vgg.chaos.dataset import make_data
from dist_vgg.chaos.faults import FAULTS, KINDS, TWO
from dist_vgg.chaos.plan import FULL, NARROW, Scale, choose_kinds, draw
from dist_vgg.chaos.report import Result, failures, results_table
from dist_vgg.chaos.trial import SUPERVISOR_COMMAND, run_trial, undisturbed
from dist_vgg.chaos.verdict import complaints
from dist_vgg.recovery.hosts import Hosts

MOST_RANKS = 8
LONGER = 4  # times as long as on one machine may a trial on several take, and a rank be silent


def main(argv: Sequence[str], supervisor: Sequence[str] = SUPERVISOR_COMMAND) -> int:
    """Run the trials that the command line asks for; returns the exit status."""
    signal.signal(signal.SIGTERM, _exit)
    options = own_parser().parse_args(argv)
    if options.list:
        print("\n".join(f"{fault.name:<16} {fault.about}" for fault in KINDS.values()))
        return 0
    kinds = choose_kinds(options.kinds, KINDS if options.kinds or options.breaker else FAULTS)
    if options.hostfile:
        supervisor = [*supervisor, *_across_hosts(options)]
        # One process kills the other, so both must be on one machine.
        kinds = [kind for kind in kinds if KINDS[kind].victim != TWO]
        if not kinds:
            raise UserError(f"--kinds {options.kinds} is for one machine, not for --hostfile")
    if any(KINDS[kind].of_host for kind in kinds) and not (options.hostfile and options.breaker):
        raise UserError("kinds that strike hosts need --hostfile, and --breaker to do so")
    if options.trials is None:
        options.trials = len(kinds)
    _check(options)
    work = _work_folder(options.work)
    try:
        results = run_trials(options, kinds, work, supervisor)
    except BaseException:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
        raise
    failed = any(result.complaints for result in results)
    if not failed and not options.keep:
        shutil.rmtree(work)
    else:
        print(f"\nfolders of the trials are in {work}")
    return int(failed)


def own_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m dist_vgg.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, metavar="N", help="default: one of each kind")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="first trial's number")
    parser.add_argument("--kinds", default="", metavar="A,B", help="only these; see --list")
    parser.add_argument(
        "--max-ranks", type=int, default=MOST_RANKS, metavar="N", help="1 to 8; default: 8"
    )
    parser.add_argument("--full", action="store_true", help="train the full network")
    parser.add_argument(
        "--hostfile",
        type=Path,
        metavar="FILE",
        help="mpirun's, for several machines, this one first; needs --work on a shared disk",
    )
    parser.add_argument(
        "--breaker",
        default="",
        metavar="COMMAND",
        help="strikes hosts, as in COMMAND off HOST, COMMAND cut HOST; COMMAND mend HOST later",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="where trials have their folders")
    parser.add_argument("--keep", action="store_true", help="keep folders of good trials, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write there all that was seen")
    parser.add_argument("--list", action="store_true", help="show the kinds of fault")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raise UserError where a number is out of range or a file can't be written."""
    for flag, value, low, high in (
        ("--trials", options.trials, 1, 10**9),
        ("--seed", options.seed, 0, 2**63 - 1),
        ("--first", options.first, 0, 10**9),
        ("--max-ranks", options.max_ranks, 1, MOST_RANKS),
    ):
        if not low <= value <= high:
            raise UserError(f"{flag} {value} is out of range: {low} to {high}")
    if options.breaker and not shutil.which(shlex.split(options.breaker)[0]):
        raise UserError(f"--breaker {options.breaker}: there is no such program")
    if options.json:
        check_writable("--json", options.json)


def _across_hosts(options: argparse.Namespace) -> list[str]:
    """The supervisor's options for several machines."""
    if options.work is None:
        raise UserError("--hostfile needs --work DIR, a folder that all its hosts share")
    Hosts(str(options.hostfile), options.max_ranks)  # refuses a file that names no host
    return ["--hostfile", str(options.hostfile.resolve())]


def _work_folder(wanted: Path | None) -> Path:
    """A new folder for the trials."""
    if {"PMI_RANK", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
        raise UserError("start it without mpirun: it starts its own ranks")
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="dist_vgg-chaos-"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise UserError(f"--work {wanted} is not empty; name another folder")
    except OSError as error:
        raise UserError(f"can't make --work {wanted}: {error.strerror}") from error
    return wanted.resolve()


def run_trials(
    options: argparse.Namespace, kinds: Sequence[str], work: Path, supervisor: Sequence[str]
) -> list[Result]:
    """Run trials of these kinds, judge each, and show what all have shown."""
    scale: Scale = FULL if options.full else NARROW
    if options.hostfile:
        scale = replace(scale, stall=LONGER * scale.stall, limit=LONGER * scale.limit)
    data = work / "data"
    make_data(data, scale)
    sha256 = undisturbed(scale, data, work / "undisturbed")
    print(f"without a fault: {scale.steps} steps, parameters {sha256[:16]}", flush=True)
    results: list[Result] = []
    for trial in range(options.first, options.first + options.trials):
        plan = draw(options.seed, trial, kinds, scale, options.max_ranks)
        if options.hostfile and plan.fault.signal:
            plan = replace(plan, rank=0)  # on the supervisor's machine
        folder = work / f"trial-{trial:05d}"
        outcome = run_trial(plan, scale, data, folder, supervisor, options.breaker)
        if plan.fault.of_host and outcome.struck:
            subprocess.run([*shlex.split(options.breaker), "mend", outcome.struck["host"]])
        wrong = complaints(plan, outcome, sha256, bool(options.hostfile))
        result = Result(plan, outcome, wrong, _command_for(options, trial), folder)
        results.append(result)
        print(result.line(), flush=True)
        if not wrong and not options.keep:
            shutil.rmtree(folder)
    print(f"\n{results_table(results)}")
    if any(result.complaints for result in results):
        print(f"\n{failures(results)}")
    if options.json:
        content = dict(sha256=sha256, trials=[result.as_dict() for result in results])
        write_text(options.json, json.dumps(content, indent=2) + "\n")
    return results


def _command_for(options: argparse.Namespace, trial: int) -> str:
    """The command that repeats a trial."""
    words = ["python", "-m", "dist_vgg.chaos", "--trials", "1", "--first", trial]
    words += ["--seed", options.seed]
    words += ["--kinds", options.kinds] if options.kinds else []
    words += ["--max-ranks", options.max_ranks] if options.max_ranks != MOST_RANKS else []
    words += ["--full"] if options.full else []
    words += ["--hostfile", options.hostfile, "--work", options.work] if options.hostfile else []
    words += ["--breaker", options.breaker] if options.breaker else []
    return shlex.join(map(str, [*words, "--keep"]))


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(KILLED_BY + number)  # and on the way out trials clean up


if __name__ == "__main__":
    sys.exit(guarded("dist_vgg.chaos", lambda: main(sys.argv[1:])))
