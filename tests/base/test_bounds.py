"""Files whose digest is right and whose content is not: refused in one line, in little memory."""

import copy
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz
import h5py
import lies
import numpy as np
import pytest
from fuzz_hdf5 import CHECKPOINT, INFO, NETWORK, SAMPLES, WEIGHTS
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_vgg.base import bounds, files
from dist_vgg.base.errors import UserError
from dist_vgg.data import shards
from dist_vgg.state import checkpoint, weights

pytestmark = pytest.mark.usefixtures("quick_disk")

PLACES = [
    ("weights", "params"),
    ("checkpoint", "params"),
    ("checkpoint", "state/mean"),
    ("shard", "pixels"),
    ("shard", "labels"),
    ("shard", "ids"),
]


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """A valid file of each kind."""

    def make(kind: str) -> Path:
        if kind == "weights":
            weights.save_weights(tmp_path / "weights.h5", WEIGHTS)
        elif kind == "checkpoint":
            checkpoint.save_checkpoint(tmp_path, CHECKPOINT, 1)
        else:
            shards.write_shard(tmp_path, "train", 0, SAMPLES, INFO)
        return tmp_path / fuzz.READERS[kind].name

    return make


def refused(kind: str, path: Path) -> str:
    """The line in which the file's reader refuses it."""
    assert files.is_whole(path)
    with pytest.raises(UserError) as caught:
        fuzz.READERS[kind].read(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("kind", ["weights", "checkpoint", "shard"])
def test_valid_files_are_read(kind: str, made: Callable[[str], Path]) -> None:
    fuzz.READERS[kind].read(made(kind))
    lies.say(made(kind))
    fuzz.READERS[kind].read(made(kind))


@pytest.mark.parametrize(("kind", "name"), PLACES)
@pytest.mark.parametrize("lie", lies.LIES, ids=lambda lie: lie.__name__)
def test_a_file_that_lies_is_refused(
    lie: Callable[[h5py.File, str], None], kind: str, name: str, made: Callable[[str], Path]
) -> None:
    path = made(kind)
    with lies.edited(path) as file:
        lie(file, name)
    tracemalloc.start()
    refused(kind, path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_what_may_be_wrong_is_named(made: Callable[[str], Path]) -> None:
    for lie, words in (
        (lies.soft_link, "it has a link to elsewhere"),
        (lies.external_link, "it has a link to elsewhere"),
        (lies.external_storage, "its params are not of type <f4"),
        (lies.virtual, "its params are not in this file"),
        (lies.compact, "its params are not in this file"),
        (lies.never_written, "its params have an impossible shape"),
        (lies.swelling, "its params unzip to another length than they claim"),
        (lies.filtered, "its params are stored in an unknown way"),
        (lies.group, "it lacks params"),
        (lies.one_more, "it holds other things than it should"),
        (lies.thousands_more, "it holds unknown members"),
        (lies.header_of_any_length, "its header is no string"),
        (lies.header_without_end, "its header is not JSON"),
    ):
        path = made("weights")
        with lies.edited(path) as file:
            lie(file, "params")
        assert f"({words})" in refused("weights", path)


def test_arrays_elsewhere_are_not_read(made: Callable[[str], Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 40))
    path = made("weights")
    with lies.edited(path) as file:
        del file["params"]
        file.create_dataset("params", (40,), "<f4", external=[(str(secret), 0, 160)])
    assert "its params are not in this file" in refused("weights", path)


def test_an_array_of_room_that_was_never_written(made: Callable[[str], Path]) -> None:
    path = made("weights")
    with lies.edited(path) as file:
        del file["params"]
        file.create_dataset("params", (100,), "<f4")
    assert "its params claim to be larger than they are" in refused("weights", path)


def test_a_chunk_that_claims_to_be_larger_than_the_file(made: Callable[[str], Path]) -> None:
    path = made("shard")
    with lies.edited(path) as file:
        lies.short_chunk(file, "pixels")
        size = file["pixels"].id.get_chunk_info(0).size
    data = path.read_bytes()
    stored = struct.pack("<II", size, 0)  # its bytes and the filters left out, in the B-tree
    assert data.count(stored) == 1
    path.write_bytes(data.replace(stored, struct.pack("<II", 0xF0000000, 0)))
    files.seal(path)
    assert "its pixels claim to be larger than they are" in refused("shard", path)


def test_a_group_without_end() -> None:
    # As of a tree that has itself as a branch.
    def iterate(take: Callable[[bytes], object]) -> None:
        while take(b"x") is None:
            pass

    group: Any = SimpleNamespace(links=SimpleNamespace(iterate=iterate))
    with pytest.raises(files.NotWhole, match="it holds unknown members"):
        bounds.members(group)


def test_a_header_that_is_too_long(made: Callable[[str], Path]) -> None:
    path = made("weights")
    options: dict[str, Any] = dict(libver="latest", userblock_size=files.USER_BLOCK)
    with h5py.File(path, "w", **options) as file:
        file.attrs["header"] = np.bytes_(" " * 100_000 + "{}")  # more than 64 KiB lie elsewhere
    files.seal(path)
    assert "its header is no string" in refused("weights", path)


def test_no_header(made: Callable[[str], Path]) -> None:
    path = made("weights")
    with lies.edited(path) as file:
        del file.attrs["header"]
    refused("weights", path)


def test_a_header_that_is_no_table(made: Callable[[str], Path]) -> None:
    path = made("weights")
    for text in ("[1, 2]", "null", "7", '"kind"', "", "NaN"):
        with lies.edited(path) as file:
            lies.say_text(file, text or " ")
        refused("weights", path)


def test_more_state_than_the_file_has_room_for(made: Callable[[str], Path]) -> None:
    # The same numbers under many names would take many times the file's size in memory.
    path = made("checkpoint")
    with lies.edited(path) as file:
        del file["params"], file["state/mean"], file["state/square"]
        file["params"] = np.zeros(2_000_000, "<f4")
        for i in range(8):
            file[f"state/again{i}"] = file["params"]
    tracemalloc.start()
    refused("checkpoint", path)
    assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size
    tracemalloc.stop()


@pytest.mark.parametrize("length", [39, 41])
def test_state_of_another_length(length: int, made: Callable[[str], Path]) -> None:
    path = made("checkpoint")
    with lies.edited(path) as file:
        del file["state/mean"]
        file["state/mean"] = np.zeros(length, "<f4")
    refused("checkpoint", path)


def test_state_called_params(made: Callable[[str], Path]) -> None:
    path = made("checkpoint")
    with lies.edited(path) as file:
        file.move("state/mean", "state/params")
    refused("checkpoint", path)


def test_state_in_weights(made: Callable[[str], Path]) -> None:
    path = made("weights")
    with lies.edited(path) as file:
        file["state/mean"] = np.zeros(40, "<f4")
    refused("weights", path)


NAN, INF = float("nan"), float("inf")
WRONG: dict[str, dict[str, list[Any]]] = {
    "weights": {
        "kind": ["checkpoint", None],
        "network": [
            None,
            {},
            [],
            *({**NETWORK, "size": size} for size in (0, -32, 33, 1056, 32.0, True, "32", 2**70)),
            *({**NETWORK, "channels": count} for count in (0, 17, 1.0)),
            *({**NETWORK, "classes": count} for count in (0, 1001, None)),
            *({**NETWORK, "width": width} for width in (0, -1, 4.1, NAN, INF, "1", True)),
            {**NETWORK, "dropout": 0},
        ],
        "mean": [NAN, INF, -1, 256, "33", None, True],
        "std": [NAN, INF, 0, 0.0, -1, 256, [0], [1, -1], ["x"]],
        "class_names": ["ab", [""], ["a\nb"], [1], ["x" * 256], {"a": 1}, None],
        "preparation": ["magic", None, [], 1],
        "source": ["a\nb", "\x1b[31m", 3],
        "dataset": ["", "AB" * 32, "ab" * 31, 7],
        "step": [-1, 1.0, True, 2**70, "7"],
        "sha256": ["cd", None],
        "kernels": ["a\nb", 1, None],
        "kernels_version": [0, -1, 1.0, True, "1", None],
        "more": [1],
    },
    "checkpoint": {
        "kind": ["weights"],
        "step": [-1, None],
        "config": [[], {"lr": NAN}, {"lr": [1]}, {"lr": {"x": 1}}, {"lr": None}],
        "network": [{**NETWORK, "size": 0}],
        "dataset": ["x"],
        "request": ["\n", 1],
        "shards": [0, 100_000, 8.0],
        "epoch": [{"loss": NAN}, {"loss": "0"}, {"seen": -1}, [1], {"\n": 1}],
        "kernels_version": [0, "1", 2**70],
        "more": [1],
    },
    "shard": {
        "split": ["validation", 0, None, []],
        "index": [-1, 0.0, True],
        "shards": [0, 100_000, True, 2**70],
        "size": [0, 31, 1025, 32.0],
        "channels": [0, 17],
        "classes": [0, 1001],
        "held_out_count": [-1, 2**31, None],
        "mean": [NAN, -1, [256], [None], [[1]], [1] * 17],
        "std": [0, NAN, INF],
        "seed": [-1, 2**63, "0"],
        "train_count": [0, 2**31],
        "test_count": [0, -5],
        "digest": ["x"],
        "zoom": ["\x07"],
        "source": [None],
        "request": ["a\tb"],
        "more": [{}],
    },
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_field_out_of_bounds_is_named(kind: str, made: Callable[[str], Path]) -> None:
    for name, values in WRONG[kind].items():
        for value in values:
            path = made(kind)
            lies.say(path, **{name: value})
            line = refused(kind, path)
            if kind != "checkpoint" and name not in ("kind", "more"):
                assert f"(its {name} is out of bounds)" in line, (name, value)


ABSENT = {"weights": weights.ABSENT, "checkpoint": checkpoint.ABSENT, "shard": shards.ABSENT}


@pytest.mark.parametrize("kind", WRONG)
def test_a_field_left_out(kind: str, made: Callable[[str], Path]) -> None:
    for name in WRONG[kind]:
        if name == "more" or name in ABSENT[kind]:
            continue
        path = made(kind)
        lies.say(path, name)
        line = refused(kind, path)
        if kind != "checkpoint" and name != "kind":
            assert f"(its header lacks {name})" in line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
RULES = {"weights": weights.WEIGHTS, "checkpoint": checkpoint.CHECKPOINT, "shard": shards.HEADER}


@pytest.mark.parametrize("kind", RULES)
@given(st.data())
@settings(max_examples=200)
def test_rules_take_anything(kind: str, data: st.DataObject) -> None:
    fields = {
        "weights": WEIGHTS,
        "checkpoint": CHECKPOINT,
        "shard": INFO,
    }[kind]
    header = {**copy.deepcopy(vars(fields)), "split": "train", "index": 0}
    header = {name: header[name] for name in RULES[kind]}
    assert not bounds.wrong(header, RULES[kind])
    name = data.draw(st.sampled_from(list(header)))
    header[name] = json.loads(json.dumps(data.draw(JSON)))
    assert isinstance(bounds.wrong(header, RULES[kind]), str)


def test_options_of_a_run_may_be_any_text() -> None:
    # Paths may have characters that no terminal shows.
    assert not bounds.wrong(
        {"config": {"data": "a\nb\udcff"}}, {"config": checkpoint.CHECKPOINT["config"]}
    )
