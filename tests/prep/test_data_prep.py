"""The command python -m data_prep: what it writes, and what it says to mistakes."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx import ArrayDict, write_files

from data_prep import mnist, prepare, zoom
from data_prep.__main__ import main
from data_prep.idx import idx_sha256
from dist_vgg.base.command_line import guarded
from dist_vgg.data import deal, shards
from dist_vgg.data.dataset import check_set, load_shard, open_set
from dist_vgg.data.samples import SPLITS, Samples, pixel_statistics

pytestmark = pytest.mark.usefixtures("quick_disk")
ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit status, output, error output."""

    def run(*words: object) -> tuple[int, str, str]:
        status = guarded("data_prep", lambda: main([str(word) for word in words]))
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def raw(tmp_path: Path, tiny: ArrayDict) -> Path:
    return write_files(tmp_path / "raw", tiny)


def everything(folder: Path) -> dict[str, Samples]:
    """All samples of a prepared folder, in order of id."""
    info = open_set(folder)
    splits = {}
    for split in SPLITS:
        parts = [load_shard(folder, split, i, info) for i in range(info.shards)]
        joined = [
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("pixels", "labels", "ids")
        ]
        splits[split] = Samples(*joined)[np.argsort(joined[2])]
    return splits


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What it writes


def test_every_image_is_there_once_enlarged_with_its_label(
    run: Run, raw: Path, tiny: ArrayDict, tmp_path: Path
) -> None:
    status, out, _ = run("--raw", raw, "--out", tmp_path / "out", "--shards", 7, "--size", 32)
    assert status == 0
    splits = everything(tmp_path / "out")
    for split, (images, labels) in mnist.FILES.items():
        assert splits[split].ids.tolist() == list(range(len(tiny[labels])))
        np.testing.assert_array_equal(splits[split].labels, tiny[labels])
        np.testing.assert_array_equal(splits[split].pixels, zoom.enlarge(tiny[images], 32))
    info = open_set(tmp_path / "out")
    assert (info.source, info.shards, info.size, info.zoom) == ("mnist", 7, 32, "bicubic")
    assert (info.train_count, info.test_count) == (60, 20)
    assert info.mean == pytest.approx(splits["train"].pixels.mean())
    assert info.std == pytest.approx(splits["train"].pixels.std())
    for word in ("MNIST", "60 train, 20 test", info.digest, "mpirun -n 7 python -m dist_vgg.train"):
        assert word in out
    assert len(list(check_set(tmp_path / "out"))) == 15
    assert len(list((tmp_path / "out").iterdir())) == 14  # and nothing else


@pytest.mark.parametrize("limit", [(), ("--limit", 33)])
def test_the_data_does_not_depend_on_the_shards(
    run: Run, raw: Path, tmp_path: Path, limit: tuple
) -> None:
    digests = set()
    for count in (1, 3, 20):
        out = tmp_path / f"out{count}"
        assert run("--raw", raw, "--out", out, "--shards", count, *limit)[0] == 0
        digests.add(open_set(out).digest)
    assert len(digests) == 1


def test_the_seed_changes_order_and_subset_only(run: Run, raw: Path, tmp_path: Path) -> None:
    infos, ids = [], []
    for seed in (0, 1):
        out = tmp_path / f"out{seed}"
        assert run("--raw", raw, "--out", out, "--seed", seed, "--shards", 2)[0] == 0
        infos.append(open_set(out))
        ids.append(load_shard(out, "train", 0, infos[-1]).ids.tolist())
        run("--raw", raw, "--out", tmp_path / f"few{seed}", "--seed", seed, "--limit", 20)
    assert infos[0].digest == infos[1].digest
    assert ids[0] != ids[1]
    few = [everything(tmp_path / f"few{seed}")["train"].ids.tolist() for seed in (0, 1)]
    assert few[0] != few[1]


def test_equal_options_give_equal_files(run: Run, raw: Path, tmp_path: Path) -> None:
    run("--raw", raw, "--out", tmp_path / "one")
    run("--raw", raw, "--out", tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_limit_takes_equally_many_of_each_class_and_leaves_the_test_set(
    run: Run, raw: Path, tmp_path: Path
) -> None:
    run("--raw", raw, "--out", tmp_path / "out", "--limit", 33, "--shards", 4)
    splits = everything(tmp_path / "out")
    assert np.bincount(splits["train"].labels).tolist() == [4] * 3 + [3] * 7
    assert len(splits["test"]) == 20


def test_a_limit_beyond_the_data_is_no_limit(run: Run, raw: Path, tmp_path: Path) -> None:
    assert run("--raw", raw, "--out", tmp_path / "out", "--limit", 61)[0] == 0
    status, out, _ = run("--raw", raw, "--out", tmp_path / "out")
    assert status == 0
    assert "nothing to do" in out


def test_a_shard_keeps_the_order_of_the_shuffle(run: Run, raw: Path, tmp_path: Path) -> None:
    run("--raw", raw, "--out", tmp_path / "out", "--shards", 3)
    order = deal.shuffled(60, 0, "train").tolist()
    info = open_set(tmp_path / "out")
    for index in range(3):
        ids = load_shard(tmp_path / "out", "train", index, info).ids
        places = [order.index(i) for i in ids]
        assert places == sorted(places)


def test_the_next_command_names_the_folder(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = run("--raw", raw, "--shards", 2)[1]
    assert out.endswith("mpirun -n 2 python -m dist_vgg.train\n")
    out = run("--raw", raw, "--out", "my data")[1]
    assert out.endswith("mpirun -n 8 python -m dist_vgg.train --data 'my data'\n")


def test_digits_are_said_to_be_digits(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run("--source", "digits", "--out", tmp_path / "out", "--size", 32, "--limit", 100)[1]
    assert "NOT MNIST" in out
    assert open_set(tmp_path / "out").source == "digits"


def test_the_real_mnist(run: Run, real_mnist: Path, tmp_path: Path) -> None:
    # --size 32 and --limit keep it quick; the test set is always whole.
    status, _, _ = run("--raw", real_mnist, "--out", tmp_path, "--limit", 1000, "--size", 32)
    assert status == 0
    info = open_set(tmp_path)
    assert (info.train_count, info.test_count) == (1000, 10000)
    sizes = [len(load_shard(tmp_path, "test", i, info)) for i in range(8)]
    assert sizes == [1250] * 8


# Again, and over what is there


def test_again_does_nothing(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--raw", raw, "--out", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(prepare, "enlarge", lambda *_: pytest.fail("enlarged again"))
    status, out, _ = run("--raw", raw, "--out", tmp_path / "out")
    assert status == 0
    assert "holds this data set already" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


CHANGES = [("--limit", 30), ("--size", 96), ("--shards", 2), ("--seed", 1)]


@pytest.mark.parametrize("change", CHANGES)
def test_other_shards_are_replaced_only_when_told(
    run: Run, raw: Path, tmp_path: Path, change: tuple
) -> None:
    out = tmp_path / "out"
    run("--raw", raw, "--out", out)
    (out / "mine.txt").write_text("kept")
    before = content(out)
    status, _, error = run("--raw", raw, "--out", out, *change)
    assert status == 2
    assert error.count("\n") == 1
    assert f"{out} holds other shards ({change[0][2:]} " in error
    assert "--overwrite" in error
    assert content(out) == before

    assert run("--raw", raw, "--out", out, "--overwrite", *change)[0] == 0
    list(check_set(out))
    assert (out / "mine.txt").read_text() == "kept"
    assert len(shards.find_shards(out)) == 2 * open_set(out).shards
    wanted = json.loads(open_set(out).request)
    assert wanted[change[0][2:]] == change[1]


def test_other_raw_data_is_another_set(
    run: Run, raw: Path, tmp_path: Path, tiny: ArrayDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--raw", raw, "--out", tmp_path / "out")
    name = mnist.FILES["test"][0]
    tiny[name] = tiny[name] ^ 1
    monkeypatch.setitem(mnist.SHA256, name, idx_sha256(tiny[name]))
    write_files(raw, tiny)
    assert "holds other shards (raw " in run("--raw", raw, "--out", tmp_path / "out")[2]


def test_an_incomplete_set_is_not_taken_for_whole(run: Run, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("--raw", raw, "--out", out)
    shards.shard_path(out, "test", 3, 8).unlink()
    status, _, error = run("--raw", raw, "--out", out)
    assert status == 2
    assert "no whole data set" in error
    assert "--overwrite" in error
    assert run("--raw", raw, "--out", out, "--overwrite")[0] == 0
    list(check_set(out))


# Failing in the middle


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("first", [True, False])
def test_an_error_in_the_middle_leaves_what_was_there(
    run: Run,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    first: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "out"
    if not first:
        run("--raw", raw, "--out", out)
    before = content(tmp_path)
    real, calls = prepare.write_shard, []

    def failing(*args: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise error
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "write_shard", failing)
    words = ("--raw", raw, "--out", out, "--seed", 1, "--overwrite")
    if error is KeyboardInterrupt:
        status, _, lines = run(*words)
        assert status == 130
        assert lines.splitlines()[-1].startswith("data_prep: interrupted")
        assert "Traceback" not in lines
    else:
        with pytest.raises(error):  # a fault of the program keeps its traceback
            run(*words)
    assert len(calls) == 5
    assert content(tmp_path) == before
    assert (tmp_path / "new").exists() is not first


def test_what_killed_runs_have_left_is_removed(run: Run, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    stale = out / f".partial-{host}-{gone.pid}"
    living = out / f".partial-{host}-{os.getppid()}"
    elsewhere = out / f".partial-other{host}-{gone.pid}"
    for folder in (stale, living, elsewhere):
        folder.mkdir(parents=True)
        (folder / "train-00000-of-00008.h5").write_text("half")
    assert run("--raw", raw, "--out", out)[0] == 0
    assert sorted(out.glob(".partial*")) == sorted([living, elsewhere])


def start(*words: object, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out"

    # Large images: there is time to interrupt.
    process = start("--source", "digits", "--out", out, "--size", 512)
    while not out.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("data_prep: interrupted")
    assert "Traceback" not in error
    assert not out.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    limit = (100_000, 100_000)  # bytes in a file: fails like a full disk, in the middle of writing
    process = start(
        *("--source", "digits", "--out", tmp_path / "out"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert error.splitlines()[-1].startswith("data_prep: error: can't write a shard to ")
    assert "free space or choose another folder" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


# Verifying


def test_check_verifies_and_changes_nothing(run: Run, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("--raw", raw, "--out", out, "--shards", 2)
    before = content(out)
    status, lines, _ = run("--check", out)
    assert status == 0
    assert lines.splitlines()[-1] == f"SHA-256 {open_set(out).digest}"
    assert content(out) == before

    shutil.copy(shards.shard_path(out, "test", 0, 2), shards.shard_path(out, "test", 1, 2))
    status, _, error = run("--check", out)
    assert status == 2
    assert error.startswith("data_prep: error: ")
    assert error.count("\n") == 1


# Mistakes


def test_too_large_shards_are_refused_before_the_work(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.prepare.MAX_BYTES", 40 * 32 * 32)
    options = ("--raw", raw, "--out", tmp_path / "out", "--size", 32)
    status, output, error = run(*options, "--shards", 1)
    assert (status, output) == (2, "")
    assert "--size 32 needs at least --shards 2 for 60 images" in error
    assert run(*options, "--shards", 2)[0] == 0


MISTAKES = {
    "--shard 4": "unknown option --shard; did you mean --shards?",
    "--limits=4": "unknown option --limits; did you mean --limit?",
    "--ovrwrite": "unknown option --ovrwrite; did you mean --overwrite?",
    "--colour": "unknown option --colour; see",
    "--ranks 4": "unknown option --ranks; did you mean --shards?",
    "extra --shrads 4": "unknown option --shrads; did you mean --shards?",
    "--xyzzy": "unknown option --xyzzy; see",
    "data": "unexpected argument data",
    "--shards": "argument --shards: expected one argument",
    "--shards 0": "argument --shards: must be an integer from 1 up, not 0",
    "--shards -3": "argument --shards: must be an integer from 1 up, not -3",
    "--shards two": "argument --shards: must be an integer from 1 up, not two",
    "--shards 21": "--shards 21 is more than the 20 test images",
    "--shards 61": "--shards 61 is more than the 60 train images",
    "--limit 0": "argument --limit: must be an integer from 1 up, not 0",
    "--limit 7": "--limit 7 leaves some of --shards 8 empty",
    "--size 0": "argument --size: must be a multiple of 32 from 32 to 1024, not 0",
    "--size 50": "argument --size: must be a multiple of 32 from 32 to 1024, not 50",
    "--size 2048": "argument --size: must be a multiple of 32 from 32 to 1024, not 2048",
    "--size 6.4": "argument --size: must be a multiple of 32 from 32 to 1024, not 6.4",
    "--seed -1": "argument --seed: must be an integer from 0 to",
    "--source cifar": "argument --source: invalid choice: 'cifar'",
    "--check x --shards 4": "--check verifies a folder and takes no other option",
    "--check gone": "no data folder gone; make one with",
    "--raw gone": "--raw gone is not a folder",
    "--source digits": "--raw has MNIST's files; leave it out, or leave out --source digits",
    "--out file": "--out file is a file, not a folder",
    "--out file/below": "can't write to --out file/below: Not a directory",
    f"--out {'x' * 300}": "File name too long",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    before = sorted(tmp_path.iterdir())
    where = () if "--check" in words else ("--raw", raw)
    status, out, error = run(*where, *words.split())
    assert status == 2
    assert not out
    assert error.startswith("data_prep: error: ")
    assert error.count("\n") == 1
    assert MISTAKES[words] in error
    assert sorted(tmp_path.iterdir()) == before


def test_too_little_memory_is_said_before_it_is_taken(
    run: Run, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 500)  # bytes in a page, and pages
    status, _, error = run("--raw", raw, "--out", tmp_path / "out")
    assert status == 2
    assert "choose a smaller --size or --limit" in error
    assert not (tmp_path / "out").exists()


def test_help_shows_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("where from:", "where to:", "(default: 8)", "(default: data)", "(default: 64)"):
        assert word in text
    assert "default: None" not in text


def test_the_command_itself() -> None:
    process = start("--shrads", "4")
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert not out
    assert error == (
        "data_prep: error: unknown option --shrads; did you mean --shards?; "
        "see python -m data_prep --help\n"
    )


@pytest.mark.parametrize(("limit", "held"), [(None, 60), (30, 31)])
def test_held_out_images_are_left_by_the_limit(
    limit: int | None, held: int, run: Run, raw: Path, tmp_path: Path
) -> None:
    few = ("--limit", limit) if limit else ()
    status, _, errors = run("--raw", raw, "--out", tmp_path / "x", *few, "--held-out", held)
    assert status == 2
    assert f"--held-out {held} leaves {60 - held} of the 60 training images" in errors
    assert "--limit 30; hold out fewer, or set" in errors if limit else "hold out fewer\n" in errors
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("limit", "held"), [(None, 20), (30, 20), (30, 30)])
def test_held_out_images_are_training_images_that_are_not_used(
    limit: int | None, held: int, run: Run, raw: Path, tmp_path: Path
) -> None:
    options = ("--raw", raw, "--size", 32, "--shards", 3)
    options = (*options, "--limit", limit) if limit else options
    status, output, errors = run(*options, "--out", tmp_path / "x", "--held-out", held)
    assert status == 0
    assert f"enlarging {held} held-out images" in errors
    assert "writing 3 train and 3 held-out shards" in errors
    splits = everything(tmp_path / "x")
    count = limit or 60 - held
    assert f"{count} train, {held} held-out training" in output
    assert len(splits["train"]) == count
    assert len(splits["test"]) == held
    assert not set(splits["train"].ids) & set(splits["test"].ids)
    for split in splits.values():
        assert np.ptp(np.bincount(split.labels, minlength=10)) <= 1
    # They are what a larger limit would have trained on, and the images are those of their ids.
    assert run(*options[:6], "--limit", count + held, "--out", tmp_path / "all")[0] == 0
    both = everything(tmp_path / "all")["train"]
    assert set(both.ids) == set(splits["train"].ids) | set(splits["test"].ids)
    for split in splits.values():
        rows = np.searchsorted(both.ids, split.ids)
        np.testing.assert_array_equal(both.pixels[rows], split.pixels)
        np.testing.assert_array_equal(both.labels[rows], split.labels)
    info = open_set(tmp_path / "x")
    assert info.held_out
    assert not open_set(tmp_path / "all").held_out
    assert (info.mean, info.std) == pixel_statistics(splits["train"].pixels)
