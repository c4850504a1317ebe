"""A pretrained network to start from: what --init takes of its weights, and what starts fresh."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.formats.trained import load_network, read_trained
from dist_vgg.mpi.collectives import bcast_text, collective_errors
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import VGG16, initialise
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.checksums import parameter_digest

if TYPE_CHECKING:
    from mpi4py import MPI

    from dist_vgg.exchange.vectors import Vectors


@dataclass(frozen=True)
class Init:
    """What --init gives to a run: its parameters, but for layers that start fresh all the same."""

    path: str
    sha256: str  # of all parameters of the file
    fresh: Mapping[str, str]  # layers that have another shape in the file, and what differs
    arrays: Mapping[str, np.ndarray]  # of the other layers, by the names of slots; on rank 0 alone

    @property
    def summary(self) -> str:
        """The file, and what is taken from it."""
        if not self.fresh:
            return f"{self.path}: all layers"
        layers = ", ".join(f"{layer} ({what})" for layer, what in self.fresh.items())
        return f"{self.path}, but fresh: {layers}"


def fill(
    vectors: "Vectors", params: np.ndarray, net: Sequential, seed: int, init: Init | None
) -> None:
    """Give all replicas what training starts with: fresh parameters, and over them those of --init.

    `params` is this rank's replica. All ranks must call it.
    """
    vectors.fill(lambda *part: initialise(net, params, seed, *part))
    if init:
        for slot in net.slots:
            if slot.name in init.arrays:
                params[slot.lo : slot.hi] = init.arrays[slot.name]
        vectors.broadcast()


def read_init(
    comm: "MPI.Intracomm", config: TrainConfig, network: Mapping[str, Any], net: Sequential
) -> Init:
    """Read the file of --init on rank 0, and tell all ranks what a run of this network gets of it.

    `network` describes `net`, as files of weights do. Raises UserError on every rank for a file
    that is missing, damaged, of another network, or of another SHA-256 than the options name.
    """
    text = ""
    arrays: dict[str, np.ndarray] = {}
    with collective_errors(comm):
        if comm.rank == 0:
            weights = read_trained(config.init)
            _check(config, network, {"name": VGG16, **weights.network})
            sha256 = parameter_digest(weights.params)
            if config.init_sha256 not in ("", sha256):
                raise UserError(
                    f"--init {config.init} has other parameters ({sha256[:16]}) than those that "
                    f"are to be there ({config.init_sha256[:16]}): name the file that has them"
                )
            fresh, arrays = _compare(load_network(weights, net.ops), weights.params, net)
            text = json.dumps(dict(sha256=sha256, fresh=fresh))
    return Init(config.init, **json.loads(bcast_text(comm, text)), arrays=arrays)


def _check(config: TrainConfig, network: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise UserError for weights of another network than this one, but for images and classes.

    Their layers may well have equal shapes, by chance: none of them is taken.
    """
    if any(found[name] != network[name] for name in ("name", "width")):
        raise UserError(
            f"--init {config.init} has {found['name']} of width {found['width']}, and this run "
            f"trains {network['name']} of width {network['width']}: give --network "
            f"{found['name']} --width {found['width']}, or name another file"
        )


def _compare(
    old: Sequential, params: np.ndarray, new: Sequential
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Layers whose shapes differ, in words, and the arrays of all others, from `params` of `old`.

    A layer whose weights differ in shape keeps nothing, not even a bias that would fit.
    """
    fresh: dict[str, str] = {}
    arrays: dict[str, np.ndarray] = {}
    for before, after in zip(old.slots, new.slots, strict=True):
        layer = after.name.partition(".")[0]
        if before.shape != after.shape and not after.is_bias:
            fresh[layer] = _difference(before.shape, after.shape)
        if layer not in fresh:
            arrays[after.name] = params[before.lo : before.hi]
    return fresh, arrays


def _difference(before: Sequence[int], after: Sequence[int]) -> str:
    """How the weights of a layer differ in shape: (kh, kw, in, out), or (in, out)."""
    names = ("channels" if len(after) == 4 else "inputs", "classes")
    pairs = zip(before[-2:], after[-2:], names, strict=True)
    return ", ".join(f"{old} -> {new} {name}" for old, new, name in pairs if old != new)
