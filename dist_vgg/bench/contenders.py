"""The contenders of a comparison: this project on some ranks, PyTorch, and two runtimes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.bench.against import TORCH, script
from dist_vgg.bench.hardware import cores
from dist_vgg.bench.processes import worker_command

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
    return _single(options, "torch", TORCH, work, *more)


def torch_bfloat16(options: argparse.Namespace, *more: object) -> list[Contender]:
    """The same in bfloat16, where autocast takes it: in training's forward and backward."""
    return _single(options, "torch bfloat16", TORCH, "train", "--bfloat16", *more)


def runtime(options: argparse.Namespace, name: str) -> list[Contender]:
    """A runtime's forward passes in one process on all cores, with each batch size."""
    return _single(options, name, name, name)


def _single(
    options: argparse.Namespace, family: str, other: str, *arguments: object
) -> list[Contender]:
    """One process on all cores, with each batch size."""
    return [
        Contender(
            f"{family}, {plural(cores(), 'thread')}",
            f"batch {batch}",
            cores(),
            script(options, other, *arguments, "--threads", cores(), "--batch", batch),
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
            script(options, TORCH, "train", "--ranks", ranks, "--batch", batch, *more),
        )
        for ranks in sorted({*options.ranks} - {1})
        for batch in options.ddp_batch
    ]
