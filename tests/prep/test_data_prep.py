"""data_prep from raw files to shards: what it writes, over what is there, and how it verifies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from idx import ArrayDict, write_files
from preparing import Run, content, enlarged, everything, start

from data_prep import mnist, prepare
from data_prep.__main__ import main
from data_prep.idx import idx_sha256
from dist_vgg.data import deal, shards
from dist_vgg.data.dataset import check_set, load_shard, open_set
from dist_vgg.data.samples import pixel_statistics

pytestmark = pytest.mark.usefixtures("quick_disk")


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
        np.testing.assert_array_equal(splits[split].pixels, enlarged(tiny[images], 32))
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
    monkeypatch.setattr(prepare, "spooled", lambda *_: pytest.fail("enlarged again"))
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
    assert "writing 3 train, 3 test and 3 held-out shards" in errors
    splits = everything(tmp_path / "x")
    count = limit or 60 - held
    assert f"{count} train, 20 test, {held} held-out" in output
    assert len(splits["train"]) == count
    assert len(splits["held-out"]) == held
    assert not set(splits["train"].ids) & set(splits["held-out"].ids)
    test = splits.pop("test")
    for split in splits.values():
        assert np.ptp(np.bincount(split.labels, minlength=10)) <= 1
    # They are what a larger limit would have trained on, and the images are those of their ids.
    assert run(*options[:6], "--limit", count + held, "--out", tmp_path / "all")[0] == 0
    together = everything(tmp_path / "all")
    both = together["train"]
    np.testing.assert_array_equal(test.pixels, together["test"].pixels)
    assert set(both.ids) == set(splits["train"].ids) | set(splits["held-out"].ids)
    for split in splits.values():
        rows = np.searchsorted(both.ids, split.ids)
        np.testing.assert_array_equal(both.pixels[rows], split.pixels)
        np.testing.assert_array_equal(both.labels[rows], split.labels)
    info = open_set(tmp_path / "x")
    assert info.held_out == "held-out"
    assert not open_set(tmp_path / "all").held_out
    assert (info.mean, info.std) == pixel_statistics(splits["train"].pixels)
