"""Recompute a step of a run in one process, and compare its bits with those recorded.

python -m dist_vgg.replay runs/NAME --step 120

It starts from the newest checkpoint before that step, or from the beginning where none is left. If
a step differs, a faulty machine has computed it wrongly, now or then; or the run used another kind
of machine or another version of the program.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import RankError, UserError
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.mpi.collectives import collective_errors
from dist_vgg.mpi.command import run_command
from dist_vgg.runs.compatibility import check_kernels, check_resumed, stored_options
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.log import read_metrics
from dist_vgg.state.checkpoint import Checkpoint, load_newest
from dist_vgg.state.checksums import GRADIENT, PARAMETERS
from dist_vgg.training import checkpointing
from dist_vgg.training.setup import reads_on_demand
from dist_vgg.training.trainer import Trainer

if TYPE_CHECKING:
    from mpi4py import MPI


def main(argv: Sequence[str], comm: "MPI.Intracomm") -> int:
    """Run the command; returns its exit status."""
    options = own_parser().parse_args(argv)
    if comm.size > 1:
        raise UserError("replay is one process: start it without mpirun")
    records = recorded_steps(options.run)
    step = chosen_step(options, records)
    config = stored_config(options.run, options.data)
    trainer = begin(config, options.run, step, comm)
    differs = replay(trainer, step, records)
    trainer.route.close()
    return RankError.CORRUPT if differs else 0


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.replay`."""
    parser = Parser(prog="python -m dist_vgg.replay", description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder")
    parser.add_argument("--step", type=int, metavar="N", help="which step (default: the last)")
    parser.add_argument("--data", metavar="DIR", help="folder of shards (default: the run's)")
    return parser


def recorded_steps(run: Path) -> dict[int, dict[str, Any]]:
    """The recorded steps that have digests, by step; UserError where there are none."""
    try:
        records = {
            r["step"]: r for r in read_metrics(run, "step") if {"digest", "layers"} <= set(r)
        }
    except OSError as error:
        raise UserError(f"can't read {error.filename}: {error.strerror}; name a run") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / 'metrics.jsonl'} is damaged: {error}") from error
    if not records:
        raise UserError(
            f"{run / 'metrics.jsonl'} has no step to compare with: none was made, or all with "
            "--no-audit"
        )
    return records


def chosen_step(options: argparse.Namespace, records: Mapping[int, object]) -> int:
    """The step of --step, or the last one; UserError where it is not recorded."""
    step = max(records) if options.step is None else int(options.step)
    if step not in records:
        raise UserError(
            f"--step {step} is not recorded in {options.run}, which has {min(records)} to "
            f"{max(records)}"
        )
    return step


def stored_config(run: Path, data: str | None) -> TrainConfig:
    """The options of a run, for one process that keeps nothing; on other `data` if given."""
    others = {"data": data} if data else {}
    try:
        content = json.loads((run / "config.json").read_text())
        stored = content["config"]
        check_kernels(stored, content.get("kernels_version", 1))
        return stored_options(stored, route="flat", standby="off", audit=True, **others)
    except OSError as error:
        raise UserError(f"can't read {error.filename}: {error.strerror}; name a run") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / 'config.json'} is damaged or of another version") from error


def begin(config: TrainConfig, run: Path, step: int, comm: "MPI.Intracomm") -> Trainer:
    """A trainer at the newest whole checkpoint before a step, or at the start."""
    folder = Path(config.data)
    info = open_set(folder, whole=False)
    on_demand = reads_on_demand(comm, info, ["train"], config.image_memory)
    with collective_errors(comm):
        shards = load_local(folder, info, "train", config.limit, comm.size, comm.rank, on_demand)
    trainer = Trainer(config, info, shards, comm)
    checkpoint: Checkpoint | None = None
    with suppress(UserError):  # none is left, or none is whole
        checkpoint = load_newest(run / "checkpoints", print, below=step)
    if checkpoint:
        check_resumed(config, info, vars(checkpoint))
        checkpointing.resume(trainer, checkpoint)
        print(f"from the checkpoint after step {trainer.step}", flush=True)
    else:
        trainer.start()
        print(f"no checkpoint before step {step} is left: from the start", flush=True)
    return trainer


def replay(trainer: Trainer, step: int, records: Mapping[int, Mapping[str, Any]]) -> bool:
    """Train up to a step and compare each step with its record; whether one differed.

    Stops at the first step that differs.
    """
    while trainer.step < step:
        computed = trainer.train_step()
        if computed["step"] in records:
            differs = difference(records[computed["step"]], computed)
            print(f"step {computed['step']}: {differs or 'the same bits'}", flush=True)
            if differs:
                return True
        if trainer.step % trainer.batches.steps_per_epoch == 0:
            trainer.finish_epoch()
    return False


def difference(recorded: Mapping[str, Any], computed: Mapping[str, Any]) -> str:
    """Where two records of a step differ, in words; "" where their bits agree."""
    if recorded["digest"] == computed["digest"] and recorded["layers"] == computed["layers"]:
        return ""
    words = []
    # Backward computes the last layer's gradient first; forward uses the first layer first.
    for name, order in ((GRADIENT, reversed), (PARAMETERS, list)):
        before, after = recorded["layers"][name], computed["layers"][name]
        differ = [layer for layer in order(list(after)) if before.get(layer) != after[layer]]
        if differ:
            words.append(f"{name} first in {differ[0]}, in {len(differ)} of {len(after)} layers")
        else:
            words.append(f"{name} in no layer")
    return "differs: " + "; ".join(words)


if __name__ == "__main__":
    run_command("dist_vgg.replay", main, own_parser)
