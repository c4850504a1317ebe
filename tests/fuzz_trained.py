"""Exported weights for the fuzz command: int8 in HDF5, and safetensors, valid and changed."""

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz_changes import NUMBERS, mutate
from fuzz_hdf5 import WEIGHTS, WEIRD
from trained import some_weights

from dist_vgg.formats.safetensors import as_safetensors
from dist_vgg.formats.trained import load_network, round_weights

INT8 = replace(WEIGHTS, precision="int8", layout=((4, 4), (3, 5)))  # 40 parameters
NETWORK = dict(name="vgg11", size=32, channels=1, classes=3, width=0.01)


def safetensors_seeds(folder: Path) -> list[bytes]:
    """A narrow network in float32 and float16."""
    weights = some_weights(NETWORK)
    net = load_network(weights, "numpy")
    return [
        as_safetensors(round_weights(weights, net, precision), net)
        for precision in ("float32", "float16")
    ]


def write_safetensors(path: Path, seeds: list[bytes], rng: random.Random) -> None:
    """Change what the header says, with a length that fits; or any bytes of it, or of the file."""
    data = rng.choice(seeds)
    end = 8 + int.from_bytes(data[:8], "little")
    head, rest = data[8:end], data[end:]
    what = rng.randrange(8)
    if what < 4:
        head = lied(head, rng)
    elif what < 6:
        head = mutate(head, [seed[8 : len(head)] for seed in seeds], rng)
    else:
        path.write_bytes(mutate(data, seeds, rng))
        return
    if rng.randrange(20) == 0:
        head = b'{"__metadata__":' + b"[" * 100_000
    length = len(head) if rng.randrange(20) else rng.choice(NUMBERS) % 2**64
    path.write_bytes(length.to_bytes(8, "little") + head + rest)


def lied(head: bytes, rng: random.Random) -> bytes:
    """A header in which a few facts are others: of the weights, of the metadata, or of an array."""
    header = json.loads(head)
    metadata = header["__metadata__"]
    ours = json.loads(metadata["dist_vgg"])
    arrays = [one for name, one in header.items() if name != "__metadata__"]
    for _ in range(rng.choice((1, 1, 2, 5))):
        what = rng.randrange(10)
        if what < 7:
            network = ours.get("network")
            table = network if type(network) is dict and what < 3 else ours
            change(table, [*WEIRD, *NUMBERS, 32, 64, "int8", "float16", "vgg16"], rng)
        elif what == 7:
            change(metadata, [*map(json.dumps, WEIRD), 1], rng)
        elif what == 8:
            change(header, WEIRD, rng)
        else:
            change(rng.choice(arrays), ["F16", "BF16", [1], [0, 2**60], *WEIRD, *NUMBERS], rng)
    if "dist_vgg" in metadata and rng.randrange(10):
        metadata["dist_vgg"] = json.dumps(ours)
    return json.dumps(header).encode()


def change(table: dict[str, Any], values: list[Any], rng: random.Random) -> None:
    """Replace, add or leave out one of the things that a table has."""
    name = rng.choice([*table, "more"])
    if rng.randrange(4):
        table[name] = copy.deepcopy(rng.choice(values))
    else:
        table.pop(name, None)
