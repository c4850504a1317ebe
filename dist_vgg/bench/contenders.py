"""The contenders of a comparison: this project on some ranks, and PyTorch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.bench.hardware import cores
from dist_vgg.bench.processes import PACKAGE, worker_command

OURS = "dist_vgg"


@dataclass(frozen=True)
class Contender:
    """A command that processes images on so many cores, and prints how fast it was."""

    family: str
    label: str
    cores: int
    command: list[str]

    @property
    def name(self) -> str:
        return f"{self.family}, {self.label}"


def ours(benchmark: str, ranks: Sequence[int], **settings: Any) -> list[Contender]:
    """This project, with each number of ranks."""
    return [
        Contender(
            OURS,
            plural(count, "rank"),
            min(count, cores()),
            worker_command(count, benchmark, **settings),
        )
        for count in ranks
    ]


def torch_single(options: argparse.Namespace, work: str, *more: object) -> list[Contender]:
    """PyTorch in one process on all cores, with each batch size; `work` is train or infer."""
    return [
        Contender(
            f"torch, {plural(cores(), 'thread')}",
            f"batch {batch}",
            cores(),
            _torch(options, work, "--threads", cores(), "--batch", batch, *more),
        )
        for batch in options.torch_batch
    ]


def torch_ddp(options: argparse.Namespace, *more: object) -> list[Contender]:
    """PyTorch's DDP, with each number of ranks above 1 and each batch size."""
    return [
        Contender(
            f"torch DDP, {ranks} ranks",
            f"batch {batch} a rank",
            min(ranks, cores()),
            _torch(options, "train", "--ranks", ranks, "--batch", batch, *more),
        )
        for ranks in sorted({*options.ranks} - {1})
        for batch in options.ddp_batch
    ]


def _torch(options: argparse.Namespace, *arguments: object) -> list[str]:
    script = [options.torch_python, PACKAGE / "against_torch.py"]
    common = ["--width", options.width, "--seconds", options.seconds]
    return list(map(str, [*script, *arguments, *common]))
