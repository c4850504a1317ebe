"""Train with several seeds and options, evaluate every run, and compare them in one table.

python -m dist_vgg.sweep --out sweep -n 2 --seeds 0,1,2 --prepare "--limit 1000" \\
    --vary optimizer=sgd,adam,adagrad --vary dropout=0,0.5 --plot sweep/loss.png -- --epochs 10

Each run has a folder in --out, and `dist_vgg.elastic` keeps it alive. After a stop the same command
goes on; it does not repeat runs that have been evaluated.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from dist_vgg.base.command_line import guarded, tell
from dist_vgg.base.errors import Diverged, UserError
from dist_vgg.base.files import lock, write_text
from dist_vgg.base.table import check_outputs
from dist_vgg.sweep.execution import execute
from dist_vgg.sweep.options import read_options
from dist_vgg.sweep.plan import plan
from dist_vgg.sweep.plot import plot_losses
from dist_vgg.sweep.processes import CommandRunner
from dist_vgg.sweep.results import result_of
from dist_vgg.sweep.run import SweepRun
from dist_vgg.sweep.table import tables
from dist_vgg.sweep.variants import parse_axes


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    own, train_words = read_options(argv, __doc__.split("\n")[0])
    runs = plan(own, train_words)
    _take_folder(own)
    check_outputs(own.json, own.plot)
    runner = CommandRunner()
    status, diverged = execute(own, runs, runner)
    if status:
        if runner.signals:
            tell(f"dist_vgg.sweep: stopped, with status {status}; the same command goes on")
        return status
    _report(own, [run for run in runs if run not in diverged], diverged)
    return Diverged.status if diverged else 0


def _take_folder(own: argparse.Namespace) -> None:
    try:
        own.out.mkdir(parents=True, exist_ok=True)
        alone = lock(own.out)
    except OSError as error:
        raise UserError(f"can't make --out {own.out}: {error.strerror}") from error
    if not alone:
        raise UserError(f"another dist_vgg.sweep is at work in {own.out}; wait for it to end")


def _report(
    own: argparse.Namespace, finished: Sequence[SweepRun], diverged: Sequence[SweepRun]
) -> None:
    """Write sweep.json, print the tables and draw the picture that was asked for."""
    scores = [(run, run.scores(own.shifts)) for run in finished]
    results = [result_of(run, score) for run, score in scores if score]
    write_text(own.json, json.dumps(results, indent=2) + "\n")
    if results:
        print(f"\n{tables(results)}", flush=True)
    for run in diverged:
        print(f"\ndiverged: {run.title}", flush=True)
    if own.plot and results:
        plot_losses(own.plot, results, parse_axes(own.vary))


if __name__ == "__main__":
    sys.exit(guarded("dist_vgg.sweep", lambda: main(sys.argv[1:])))
