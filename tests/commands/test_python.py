"""Training and weights from Python, without the command line."""

from dataclasses import replace
from pathlib import Path

import pytest
from mpi4py import MPI
from threadpoolctl import threadpool_limits
from training import EPOCHS, SMALL

from dist_vgg.base import machine
from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.data.set_info import SetInfo
from dist_vgg.mpi.command import source_sha256
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.folder import choose_folder, prepare_folder
from dist_vgg.state.weights import load_weights
from dist_vgg.training import checkpointing, messages
from dist_vgg.training.divergence import exploded
from dist_vgg.training.trainer import Trainer

COMM = MPI.COMM_SELF


def trainer_of(data: Path, source: str = "mnist") -> Trainer:
    """A trainer with the options of the run `reference`, in this process."""
    given = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | dict([EPOCHS])
    options = {name.lstrip("-").replace("-", "_"): value for name, value in given.items()}
    info: SetInfo = replace(open_set(str(data)), source=source)
    shards = load_local(str(data), open_set(data), "train", 0, 1, 0)
    return Trainer(TrainConfig(**options), info, shards, COMM)


def test_a_trainer_computes_the_bits_of_the_command(data: Path, reference: Path) -> None:
    """Other numbers of BLAS threads round differently, and a notebook begins with all cores."""
    with threadpool_limits(None):  # restores what the trainer sets
        threadpool_limits(2, user_api="blas")
        trainer = trainer_of(data)
        assert machine.blas_threads() == [1]
        trainer.start()
        for _ in range(trainer.steps):
            trainer.train_step()
        assert trainer.route.vectors.digest() == load_weights(reference).sha256


def test_a_trainer_that_was_not_started_says_so(data: Path) -> None:
    trainer = trainer_of(data)
    for use in (trainer.train_step, trainer.validate, lambda: checkpointing.gather(trainer)):
        with pytest.raises(RuntimeError, match=r"call start\(\) or checkpointing.resume\(\) first"):
            use()


def test_weights_are_found_by_a_path_or_its_text(reference: Path) -> None:
    for place in (reference, reference / "weights.h5"):
        assert load_weights(str(place)).sha256 == load_weights(place).sha256


def test_runs_of_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20261127-120000")
    description = dict(run="a", steps=1)
    # Both have chosen before either has made its folder.
    wanted = [choose_folder({}, False, COMM) for _ in range(3)]
    made = [prepare_folder(f, COMM, False, description, named=False) for f in wanted]
    assert [f.name for f in made] == [f"20261127-120000{end}" for end in ("", "-2", "-3")]
    assert all((folder / "config.json").exists() for folder in made)


@pytest.mark.parametrize(("source", "loud"), [("mnist", 0), ("digits", 1), ("my-letters", 0)])
def test_only_the_stand_in_is_called_one(data: Path, source: str, loud: int) -> None:
    head = messages.head(trainer_of(data, source), Path("run"), ["node1"])
    assert head.count("a small stand-in") == loud
    assert f": {source}, 61 training images" in head


def test_the_head_names_so_many_hosts_as_fit(data: Path) -> None:
    trainer = trainer_of(data)
    some = messages.head(trainer, Path("run"), [f"node{n // 2}" for n in range(6)])
    assert " on node0 (2), node1 (2), node2 (2), route " in some
    assert "(rank 0, on node0): the run saves" in some
    many = messages.head(trainer, Path("run"), [f"node{n}" for n in range(100)])
    assert ", node15 (1), 100 hosts in all, route " in many


def test_the_head_says_where_ranks_share_cores(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(data)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert "\ncores" not in messages.head(trainer, Path("run"), ["a", "a", "b", "b", "b"])
    line = "cores   2 on a, which 3 ranks share: fewer ranks give the same weights sooner"
    assert line in messages.head(trainer, Path("run"), ["a", "a", "a", "b"])


def test_an_epoch_s_line_has_both_scores_side_by_side() -> None:
    record = dict(epoch=3, loss=0.5, accuracy=0.9, images_per_s=40.0, seconds=2.0, sha256="ab" * 32)
    score = dict(loss=0.25, accuracy=0.8)
    head, tail = (
        "epoch 3/9: loss 0.5000, training accuracy 90.00%, ",
        "40.0 images/s, 2 s, parameters ",
    )
    tail += "ab" * 8
    held_out = "held-out loss 0.2500, held-out accuracy 80.00%, "
    average = dict(average_loss=0.125, average_accuracy=0.7)
    assert messages.epoch(record, 9) == head + tail
    assert messages.epoch(record, 9, score) == head + held_out + tail
    line = head + held_out + "of the average 0.1250, 70.00%, " + tail
    assert messages.epoch(record, 9, score | average) == line


@pytest.mark.parametrize(
    ("loss", "norm", "words"),
    [
        (2302, 9e5, ""),
        (2303, 0, "the loss is 2.3e+03, more than 1,000 times that of guessing"),
        (0, 1.1e6, "the gradient's norm is 1.1e+06, more than 1,000,000"),
    ],
)
def test_what_counts_as_exploded(loss: float, norm: float, words: str) -> None:
    found = exploded(loss, norm, classes=10)
    assert found == (words and f"training has diverged: {words}; lower --lr, or lengthen --warmup")


def test_what_an_editor_leaves_beside_the_source_is_no_part_of_it(tmp_path: Path) -> None:
    plain, edited, other = (tmp_path / name for name in ("plain", "edited", "other"))
    for folder in (plain, edited, other):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    (edited / ".#train.py").symlink_to("nobody@nowhere")  # the lock of Emacs
    (edited / ".ipynb_checkpoints").mkdir()
    (edited / ".ipynb_checkpoints" / "train-checkpoint.py").write_text("old")
    assert source_sha256(edited) == source_sha256(plain)
    (other / "train.py").write_text("new")
    assert source_sha256(other) != source_sha256(plain)
