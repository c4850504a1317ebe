"""The plan of a sweep: all of its runs, checked before the first one starts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.options import train_parser
from dist_vgg.runs.recipes import read_toml
from dist_vgg.sweep.run import SweepRun
from dist_vgg.sweep.variants import Variant, as_options, combinations, parse_axes


def plan(own: argparse.Namespace, train_words: Sequence[str]) -> list[SweepRun]:
    """All runs: each variant with each seed; UserError for options that train would refuse.

    `own` are the options of the sweep, `train_words` those behind `--`.
    """
    runs: list[SweepRun] = []
    for variant in combinations(parse_axes(own.vary)):
        words = [*train_words, *as_options(variant)]
        given = _train_options(own, words)
        for seed in own.seeds:
            run = _run(own, variant, seed, words, given)
            if run.folder in {other.folder for other in runs}:
                raise UserError(f"{run.title} would be there twice; leave one out")
            runs.append(run)
    return runs


def _train_options(own: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """The options in words for train; UserError for those that the sweep itself decides."""
    given = vars(train_parser().parse_args(words))
    if {"resume", "debug", "pdb"} & given.keys():
        raise UserError("leave out --resume and --debug: a sweep goes on by itself")
    ours = {"seed": "--seeds", "out": "--out of the sweep"}
    ours |= {"data": "--prepare"} if own.prepare is not None else {}
    for name in ours.keys() & given.keys():
        raise UserError(f"leave out --{name} for train: that is what {ours[name]} is for")
    file = given.pop("config", None)
    return {**(read_toml(file) if file else {}), **given}


def _run(
    own: argparse.Namespace,
    variant: Variant,
    seed: int,
    words: Sequence[str],
    given: dict[str, Any],
) -> SweepRun:
    """The run of a variant with a seed."""
    name = "-".join(f"{k}-{v}" for k, v in [*variant.items(), ("seed", str(seed))])
    folder = own.out / name.replace("/", "-")
    options = [*words, "--seed", str(seed), "--out", str(folder)]
    own_data = {}
    if own.prepare is not None:
        own_data = {"data": str(data_folder(own, seed))}
        options += ["--data", own_data["data"]]
    config = TrainConfig(**{**given, "seed": seed, **own_data})
    config.check()
    held_out = None
    if own.held_out:
        old = held_out_folder(own, seed)
        held_out = old if old.is_dir() else data_folder(own, seed)
    return SweepRun(variant, seed, folder, Path(config.data), held_out, options, config)


def data_folder(own: argparse.Namespace, seed: int) -> Path:
    """Where --prepare puts a seed's data set."""
    return Path(own.out / f"data-{seed}")


def held_out_folder(own: argparse.Namespace, seed: int) -> Path:
    """Where earlier versions put a seed's held-out images, in a folder of their own."""
    return Path(own.out / f"held-out-{seed}")
