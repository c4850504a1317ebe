"""One trial: train under the supervisor with one fault, and see what comes of it."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.errors import UserError
from dist_vgg.chaos import processes
from dist_vgg.chaos.damage import harm_checkpoint, harm_shard, small_disk
from dist_vgg.chaos.injector import FAULT
from dist_vgg.chaos.outcome import Outcome, final_sha256, read_outcome, remove_memory
from dist_vgg.chaos.plan import Plan, Scale
from dist_vgg.runs.config import TrainConfig

SUPERVISOR_COMMAND = (sys.executable, "-m", "dist_vgg.chaos.supervised")


def run_trial(
    plan: Plan,
    scale: Scale,
    data: Path,
    folder: Path,
    supervisor: Sequence[str] = SUPERVISOR_COMMAND,
    breaker: str = "",
) -> Outcome:
    """Train under a plan's fault, in a folder of the trial's own.

    `breaker` is the command that strikes hosts, see --breaker.
    """
    started, outcome = time.monotonic(), Outcome()
    folder.mkdir(parents=True)
    # Only a rank that stops is found by its silence. With a short timeout all the time, a crowded
    # machine would be taken for one; the loss of a rank or host is known without it.
    stall = scale.stall if plan.fault.action in ("stop", "sleep") else TrainConfig.stall_timeout
    if plan.fault.harm == "shard":
        data = harm_shard(data, plan, folder / "data")
    with small_disk(plan, folder, data) as plan:
        command = [
            *supervisor, "-n", str(plan.ranks), "--max-restarts", "3", "--",
            *train_options(scale, data, folder / "run"), "--route", plan.route,
            "--checkpoint-every", str(scale.every),
            "--stall-timeout", f"{stall:g}",
        ]  # fmt: skip
        try:
            _supervise(command, plan, breaker, folder, started + scale.limit, outcome)
        finally:
            processes.kill_all(folder)
            outcome.memory = remove_memory(folder)
        read_outcome(outcome, folder)
    outcome.seconds = time.monotonic() - started
    return outcome


def _supervise(
    command: Sequence[str],
    plan: Plan,
    breaker: str,
    folder: Path,
    deadline: float,
    outcome: Outcome,
) -> None:
    """Start the supervisor, and start it again as often as a user would."""
    told = json.dumps(dict(folder=str(folder), plan=vars(plan), breaker=breaker))
    environment = {**processes.environment(), FAULT: told}
    for wanted in plan.fault.statuses:
        left = deadline - time.monotonic()
        status = processes.run_to_end(command, environment, folder / "output.txt", left)
        outcome.hung = status is None
        outcome.statuses += [] if status is None else [status]
        outcome.orphans += processes.leftovers(folder, 0 if outcome.hung else processes.GRACE)
        if status != wanted:
            break
        if plan.fault.harm in ("cut", "flip") and len(outcome.statuses) == 1:
            harm_checkpoint(plan, folder / "run")
            remove_memory(folder)  # or training would go on from there


def train_options(scale: Scale, data: Path, out: Path) -> list[str]:
    """The options of training that decide its result, and where its files are."""
    return [
        "--data", str(data), "--out", str(out), "--width", f"{scale.width:g}",
        "--micro-batch", str(scale.micro_batch), "--epochs", str(scale.epochs),
        "--optimizer", "adam", "--lr", "0.001", "--warmup", "2", "--progress", "none",
    ]  # fmt: skip


def undisturbed(scale: Scale, data: Path, folder: Path) -> str:
    """Train on one rank with no fault; the SHA-256 of the parameters."""
    command = [sys.executable, "-m", "dist_vgg.train", *train_options(scale, data, folder / "run")]
    folder.mkdir(parents=True)
    status = processes.run_to_end(
        command, processes.environment(), folder / "output.txt", scale.limit
    )
    if status:
        said = (folder / "output.txt").read_text(errors="replace").strip()
        raise UserError(f"training without a fault ended with status {status}:\n{said}")
    return final_sha256(folder / "run")
