"""Trained networks as safetensors: they come back, others read them, damaged ones don't pass."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save
from trained import COLOURS, DIGITS, NETWORKS, SHORT, ready, same

from dist_vgg.api.model import load as load_model
from dist_vgg.base.errors import UserError
from dist_vgg.formats.safetensors import as_safetensors, read_safetensors, write_safetensors
from dist_vgg.formats.trained import read_trained, round_weights
from dist_vgg.network.vgg import vgg
from dist_vgg.runs.config import TrainConfig
from dist_vgg.state.weights import save_weights
from dist_vgg.training.pretrained import read_init

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_weights_come_back(tmp_path: Path, network: dict[str, Any], precision: str) -> None:
    weights, net = ready(network)
    path = tmp_path / "a.safetensors"
    rounded = round_weights(weights, net, precision)
    write_safetensors(path, rounded, net)
    same(read_trained(path), rounded)
    assert list(tmp_path.iterdir()) == [path]
    assert load_model(path).sha256 == rounded.sha256


def test_what_others_read(tmp_path: Path) -> None:
    weights, net = ready(COLOURS)
    weights = round_weights(weights, net, "float16")
    path = tmp_path / "a.safetensors"
    write_safetensors(path, weights, net)
    with safe_open(path, "numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
        assert file.get_tensor("features.0.weight").shape == (3, 3, 3, 3)
        found = file.metadata()
    del found["dist_vgg"]
    assert found == dict(
        format="pt", network="vgg16", size="96", channels="3", classes="12", width="0.05",
        mean="[120.5, 110.25, 99.125]", std="[60.0, 61.5, 70.25]", preparation="crop",
        class_names=json.dumps(weights.class_names), source="images", dataset="ab" * 32, step="7",
        sha256=weights.sha256, made_from=weights.made_from, precision="float16", kernels="compiled",
    )  # fmt: skip


def test_same_weights_give_the_same_bytes() -> None:
    # The package would write metadata in another order each time.
    weights, net = ready(DIGITS)
    assert len({as_safetensors(weights, net) for _ in range(5)}) == 1


def test_a_file_replaces_an_older_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, net = ready(DIGITS)
    path = tmp_path / "a.safetensors"
    path.write_text("old")

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"can't write .*: No space left on device"):
            write_safetensors(path, weights, net)
    assert path.read_text() == "old"
    write_safetensors(path, weights, net)
    assert list(tmp_path.iterdir()) == [path]
    same(read_trained(path), weights)


def test_int8_is_refused(tmp_path: Path) -> None:
    weights, net = ready(DIGITS)
    with pytest.raises(UserError, match=r"no int8 .*; export --precision float16, or --to weights"):
        write_safetensors(tmp_path / "a.safetensors", round_weights(weights, net, "int8"), net)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, net = ready(DIGITS)
    path = tmp_path / "a.safetensors"
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("--to safetensors", lambda: write_safetensors(path, weights, net)),
        (f"reading {path}", lambda: read_safetensors(path)),
    ]
    for purpose, call in calls:
        with pytest.raises(UserError) as raised:
            call()
        line = str(raised.value)
        assert line.startswith(f"{purpose} needs the package safetensors, which can't be imported")
        assert line.endswith("install it with: pip install 'dist_vgg[export]'")
        assert "\n" not in line


def relabelled(content: bytes, **fields: Any) -> bytes:
    """A file whose metadata says something else."""
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    ours = {**json.loads(metadata["dist_vgg"]), **fields}
    return bytes(save(load(content), {"dist_vgg": json.dumps(ours)}))


def changed(content: bytes, **arrays: np.ndarray | None) -> bytes:
    """A file with other arrays; "_" in a name stands for a dot."""
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    found = {**load(content), **{name.replace("_", "."): one for name, one in arrays.items()}}
    return bytes(save({name: one for name, one in found.items() if one is not None}, metadata))


WIDE = dict(DIGITS, width=4)
F64 = np.zeros(10)
DAMAGED = "damaged, or no safetensors file"
DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda c: b"", DAMAGED),
    (lambda c: c[:100], DAMAGED),
    (lambda c: c[:-1], DAMAGED),
    (lambda c: c + b"\0", DAMAGED),
    (lambda c: b"\x89HDF\r\n\x1a\n" * 9, DAMAGED),
    (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "its arrays have not the SHA-256 that it names"),
    (lambda c: save(load(c)), "it has no metadata of dist_vgg"),
    (lambda c: save(load(c), {"dist_vgg": "[[["}), "its header is not JSON"),
    (lambda c: save(load(c), {"dist_vgg": "[" * 100_000}), "its header is not JSON"),
    (lambda c: relabelled(c, kind="cake"), "it holds no weights"),
    (lambda c: relabelled(c, step=-1), "its step is out of bounds"),
    (lambda c: relabelled(c, cake=1), "its header has an unknown field"),
    (lambda c: relabelled(c, mean=[1, 2]), "its mean is not of 1 channels"),
    (lambda c: relabelled(c, precision="int8"), "its precision is int8"),
    (lambda c: relabelled(c, precision="float16"), "its features.0.weight is not of type F16"),
    (lambda c: relabelled(c, network=dict(DIGITS, name="x")), "its network is unknown"),
    (
        lambda c: relabelled(c, network=WIDE),
        "its features.0.weight is (3, 1, 3, 3) and must be (256, 1, 3, 3)",
    ),
    (lambda c: changed(c, classifier_6_bias=None), "it lacks classifier.6.bias"),
    (lambda c: changed(c, classifier_6_bias=F64), "its classifier.6.bias is not of type F32"),
    (lambda c: changed(c, classifier_9_bias=F64), "it has arrays that its network has not"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_damaged_or_foreign_file_is_one_line(
    tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(damage(as_safetensors(*ready(DIGITS))))
    with pytest.raises(UserError) as raised:
        read_trained(path)
    assert str(raised.value) == f"{path} can't be used as weights ({reason}); name another file"


def test_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"no weights .*a\.safetensors; name a file that"):
        read_safetensors(path)
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is no file"):
        read_trained(path)


def test_a_folder_of_an_export_stands_for_its_file(tmp_path: Path) -> None:
    weights, net = ready(DIGITS)
    write_safetensors(tmp_path / "model.safetensors", weights, net)
    same(read_trained(tmp_path), weights)
    other = replace(weights, step=8)
    save_weights(tmp_path / "weights.h5", other)  # a run's folder has its own
    same(read_trained(tmp_path), other)


def test_training_starts_from_it(tmp_path: Path) -> None:
    from mpi4py import MPI

    weights, net = ready(SHORT)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, weights, net)
    config = TrainConfig(network="vgg11", width=SHORT["width"], init=str(path))
    init = read_init(MPI.COMM_SELF, config, SHORT, vgg(**SHORT))
    assert (init.sha256, init.fresh) == (weights.sha256, {})
    found = np.concatenate([init.arrays[slot.name].ravel() for slot in net.slots])
    assert found.tobytes() == weights.params.tobytes()
