"""Carrying out a sweep: prepare the data of each seed, then train and evaluate each run."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from dist_vgg.base.errors import Diverged, UserError
from dist_vgg.data.dataset import open_set
from dist_vgg.mpi.mpirun import find_mpirun
from dist_vgg.sweep.plan import data_folder, held_out_folder
from dist_vgg.sweep.processes import CommandRunner
from dist_vgg.sweep.run import SweepRun

PYTHON = [sys.executable, "-m"]


def execute(
    own: argparse.Namespace, runs: Sequence[SweepRun], runner: CommandRunner
) -> tuple[int, list[SweepRun]]:
    """Do all that has not been done yet.

    Returns the status of the first command that failed, or 0, and the runs that diverged.
    """
    if status := _prepare(own, runner):
        return status, []
    mpirun = [*find_mpirun(own.mpirun), "-n", own.n]
    _check(own, runs)
    diverged: list[SweepRun] = []
    for number, run in enumerate(runs, start=1):
        if run.scores(own.shifts):
            continue
        print(f"\n== run {number} of {len(runs)}: {run.title}", flush=True)
        status = _train(own, run, runner)
        if status == Diverged.status:
            diverged.append(run)
            continue
        status = status or _evaluate(own, run, mpirun, runner)
        if status:
            return status, diverged
    return 0, diverged


def _prepare(own: argparse.Namespace, runner: CommandRunner) -> int:
    """Make the data sets that are not there yet; the status of the first command that failed."""
    for seed in own.seeds if own.prepare is not None else []:
        prepare = [*PYTHON, "data_prep", *shlex.split(own.prepare), "--seed", seed, "--out"]
        held_out = ["--held-out", own.held_out] if own.held_out else []
        if held_out_folder(own, seed).is_dir():  # a sweep that an earlier version began
            held_out = []
        if status := runner.run([*prepare, data_folder(own, seed), *held_out]):
            return status
    return 0


def _check(own: argparse.Namespace, runs: Sequence[SweepRun]) -> None:
    """Raise UserError, before anything is trained, for what only the data sets and folders show."""
    for run in runs:
        info = open_set(run.data)
        if not 0 <= own.shifts < info.size:
            raise UserError(
                f"--shifts {own.shifts} is out of range: it must be 0 to {info.size - 1}"
            )
        run.check_folder(info)


def _train(own: argparse.Namespace, run: SweepRun, runner: CommandRunner) -> int:
    """Train a run under the supervisor, or go on with it; the supervisor's status."""
    supervisor = [*PYTHON, "dist_vgg.elastic", "-n", own.n]
    supervisor += ["--mpirun", own.mpirun] if own.mpirun else []
    return runner.run([*supervisor, "--", *run.options, "--resume", "if-any"])


def _evaluate(
    own: argparse.Namespace, run: SweepRun, mpirun: Sequence[object], runner: CommandRunner
) -> int:
    """Score a trained run on each of its sets; the status of the first command that failed."""
    for scored in run.sets().values():
        evaluate = [*PYTHON, "dist_vgg.evaluate", run.folder, "--data", scored.data]
        wanted = ["--split", scored.split, "--shifts", own.shifts, "--kernels", run.config.kernels]
        if status := runner.run([*mpirun, *evaluate, *wanted, "--json", scored.score]):
            return status
    return 0
