"""Checkpoints and weights: what is saved comes back, what is damaged does not."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lies import edited, say, say_text

from dist_vgg.base import files
from dist_vgg.base.errors import UserError
from dist_vgg.state.checkpoint import Checkpoint, checkpoints, load_newest, save_checkpoint
from dist_vgg.state.weights import Weights, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("quick_disk")

NETWORK = dict(size=32, channels=1, classes=10, width=0.05)
VECTOR = np.random.default_rng(0).standard_normal(1000).astype(np.float32)


def some(step: int = 7, state: tuple[str, ...] = ("momentum",)) -> Checkpoint:
    return Checkpoint(
        step=step,
        config=dict(lr=0.1, optimizer="sgd", nesterov=False),
        network=NETWORK,
        dataset="ab" * 32,
        request="{}",
        shards=8,
        epoch=dict(loss=0.1 + step, correct=3, seen=8, seconds=1.5),
        best=dict(accuracy=0.5, loss=1.5, step=5, since=2),
        params=VECTOR + np.float32(step),
        state={name: VECTOR * k for k, name in enumerate(state)},
    )


WEIGHTS = Weights(
    network=NETWORK,
    mean=(33.3,),
    std=(78.5,),
    source="mnist",
    dataset="ab" * 32,
    step=7,
    sha256="cd" * 32,
    params=VECTOR,
)


def as_found(content: Checkpoint | Weights) -> dict[str, Any]:
    """The fields with arrays as bytes, to compare bit by bit."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return (str(value.dtype), value.tobytes())
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    return {name: plain(value) for name, value in vars(content).items()}


def silent(words: str) -> None:
    raise AssertionError(f"nothing to say, but: {words}")


@pytest.mark.parametrize("state", [(), ("momentum",), ("mean", "square")])
def test_a_checkpoint_comes_back(tmp_path: Path, state: tuple[str, ...]) -> None:
    path = save_checkpoint(tmp_path, some(state=state), keep=2)
    assert path == tmp_path / "step-00000007.h5"
    assert list(tmp_path.iterdir()) == [path]
    assert as_found(load_newest(tmp_path, silent)) == as_found(some(state=state))


def test_weights_come_back_from_the_file_or_the_folder(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.h5", WEIGHTS)
    for path in (tmp_path, tmp_path / "weights.h5"):
        assert as_found(load_weights(path)) == as_found(WEIGHTS)


def test_files_of_a_version_that_named_no_kernels(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, replace(some(), kernels_version=5), keep=1)
    assert load_newest(tmp_path, silent).kernels_version == 5
    say(path, "kernels_version")
    assert load_newest(tmp_path, silent).kernels_version == 1
    path = tmp_path / "weights.h5"
    save_weights(path, replace(WEIGHTS, kernels="compiled", kernels_version=5))
    assert (load_weights(path).kernels, load_weights(path).kernels_version) == ("compiled", 5)
    say(path, "kernels", "kernels_version")
    assert as_found(load_weights(path)) == as_found(WEIGHTS)
    assert (WEIGHTS.kernels, WEIGHTS.kernels_version) == ("numpy", 1)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, some(), keep=1)
    with h5py.File(path) as file:
        header = json.loads(file.attrs["header"])
        assert header["step"] == 7
        assert file["params"].dtype == file["state/momentum"].dtype == np.float32


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (3, 100, 20, 120_000_00):
        save_checkpoint(tmp_path, some(step), keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-12000000.h5", "step-00000020.h5"]
    assert load_newest(tmp_path, silent).step == 12_000_000


def test_what_was_just_saved_stays_and_later_ones_go(tmp_path: Path) -> None:
    # After --resume from an older checkpoint: the damaged one must not push out a whole one.
    save_checkpoint(tmp_path, some(10), keep=2)
    save_checkpoint(tmp_path, some(20), keep=2).write_bytes(b"damaged")
    save_checkpoint(tmp_path, some(15), keep=1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000015.h5"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "step-1.h5"
    other.write_text("mine")
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, some(step), keep=1)
    assert other.read_text() == "mine"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flip_in_vector(path: Path) -> None:
    data = bytearray(path.read_bytes())
    # The smallest bit of one number of the parameters, wherever they lie in the file.
    with h5py.File(path) as file:
        place = data.index(file["params"][...].tobytes())
    data[place + 4 * 321] ^= 1
    path.write_bytes(data)


def flip_in_header(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'"width": 0.05') == 1
    path.write_bytes(data.replace(b'"width": 0.05', b'"width": 0.04'))


def other_schema(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"dist_vgg 2 ", b"dist_vgg 1 "))


def other_kind(path: Path) -> None:
    say(path, kind="a cake")


def no_hdf5(path: Path) -> None:
    path.write_text("lr = 0.1\n" * 500)


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1


def without_vector(path: Path) -> None:
    with edited(path) as file:
        del file["params"]


def header_of_a_stranger(path: Path) -> None:
    with edited(path) as file:
        say_text(file, "[1, 2]")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [
    cut,
    cut_to_nothing,
    flip_in_vector,
    flip_in_header,
    other_schema,
    other_kind,
    no_hdf5,
    foreign_hdf5,
    without_vector,
    header_of_a_stranger,
    pipe,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_checkpoint(tmp_path, some(10), keep=2)
    newest = save_checkpoint(tmp_path, some(20), keep=2)
    damage(newest)
    said: list[str] = []
    assert as_found(load_newest(tmp_path, said.append)) == as_found(some(10))
    assert said == [f"checkpoint {newest} is damaged or of another version; trying the one before"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "weights.h5"
    save_weights(path, WEIGHTS)
    damage(path)
    with pytest.raises(UserError, match="can't be used as weights") as raised:
        load_weights(path)
    line = str(raised.value)
    assert line.startswith(f"{path} ") and line.endswith("; name another file")
    assert "\n" not in line


def test_a_checkpoint_is_no_weights_nor_the_other_way_round(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, some(), keep=1)
    with pytest.raises(UserError, match="it holds no weights"):
        load_weights(path)
    save_weights(path, WEIGHTS)
    with pytest.raises(UserError, match="no whole checkpoint"):
        load_newest(tmp_path, lambda words: None)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    save_weights(path, WEIGHTS)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place, bit in zip(rng.integers(0, len(whole), 500), rng.integers(0, 8, 500), strict=True):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(UserError, match="can't be used as weights"):
            load_weights(path)


def test_where_nothing_is_whole(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no whole checkpoint in .*; start a new run without --resume"
    ):
        load_newest(tmp_path, silent)
    with pytest.raises(UserError, match="no whole checkpoint"):
        load_newest(tmp_path / "gone", silent)
    for step in (1, 2):
        cut(save_checkpoint(tmp_path, some(step), keep=2))
    said: list[str] = []
    with pytest.raises(UserError, match="no whole checkpoint"):
        load_newest(tmp_path, said.append)
    assert len(said) == 2


def test_missing_weights(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.h5"):
        with pytest.raises(UserError, match=r"no weights .*\.h5; a finished run has them"):
            load_weights(path)


@pytest.mark.parametrize("step", [10, 20])
def test_no_older_one_goes_before_the_new_one_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    first = save_checkpoint(tmp_path, some(10), keep=1)
    monkeypatch.setattr(files, "is_whole", lambda path, check: False)
    with pytest.raises(UserError, match="does not read back as it was written"):
        save_checkpoint(tmp_path, some(step), keep=1)
    assert list(tmp_path.iterdir()) == [first]
    assert as_found(load_newest(tmp_path, silent)) == as_found(some(10))


def test_an_older_one_that_can_not_be_removed_does_not_fail_the_save(tmp_path: Path) -> None:
    stuck = save_checkpoint(tmp_path, some(10), keep=1)
    stuck.unlink()
    stuck.mkdir()  # a folder, which unlink doesn't remove; not even for root
    save_checkpoint(tmp_path, some(20), keep=1)
    save_checkpoint(tmp_path, some(30), keep=1)
    assert checkpoints(tmp_path) == [tmp_path / "step-00000030.h5", stuck]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    first = save_checkpoint(tmp_path, some(10), keep=1)
    before = first.read_bytes()

    def interrupted(path: Path) -> None:
        raise error

    monkeypatch.setattr(files, "fsync", interrupted)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    for step in (10, 20):  # over the old one, and beside it
        with pytest.raises(expected):
            save_checkpoint(tmp_path, some(step), keep=1)
        assert list(tmp_path.iterdir()) == [first]
        assert first.read_bytes() == before
    with pytest.raises(expected):
        save_weights(tmp_path / "weights.h5", WEIGHTS)
    assert list(tmp_path.iterdir()) == [first]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(files._Sink):
        def write(self, data: Any) -> int:
            self.error = OSError(errno.ENOSPC, "No space left on device")
            return memoryview(data).nbytes

    monkeypatch.setattr(files, "_Sink", Full)
    with pytest.raises(UserError, match=r"can't write a checkpoint to .*: No space left on device"):
        save_checkpoint(tmp_path, some(), keep=1)
    assert not list(tmp_path.iterdir())
