"""--init and --network: what a run starts from, recorded, and with the same bits at any ranks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from launcher import here, one_line, train
from mpi4py import MPI
from training import EPOCHS, SMALL, outcome, refused, small_options, struck

from dist_vgg import Dataset, TrainConfig, fit
from dist_vgg.state.weights import load_weights, save_weights
from dist_vgg.training.trainer import Trainer

CONFIG = TrainConfig(**small_options(), seed=5)


def begun(dataset: Dataset, config: TrainConfig) -> tuple[dict[str, np.ndarray], str]:
    """The parameters by name that training starts with, and what it says of --init."""
    trainer = Trainer(config, dataset.info, dataset.local(), MPI.COMM_SELF)
    init = trainer.read_init()
    trainer.start()
    arrays = {s.name: trainer.route.params[s.lo : s.hi].copy() for s in trainer.net.slots}
    trainer.route.close()
    return arrays, init.summary if init else ""


def other_images() -> Dataset:
    """Larger images in colour, of more classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    return Dataset(pixels, np.arange(24) % 12, shards=2)


def test_all_layers_of_a_file_of_the_same_shape(
    data: Path, reference: Path, tmp_path: Path
) -> None:
    weights = load_weights(reference)
    # As earlier versions wrote it, which knew one network.
    old = {name: value for name, value in weights.network.items() if name != "name"}
    save_weights(tmp_path / "old.h5", replace(weights, network=old))
    for path in (str(reference), str(tmp_path / "old.h5")):
        arrays, summary = begun(Dataset.open(data), replace(CONFIG, init=path))
        assert np.concatenate([*arrays.values()]).tobytes() == weights.params.tobytes()
        assert summary == f"{path}: all layers"


def test_layers_of_another_shape_start_as_in_a_fresh_run(data: Path, reference: Path) -> None:
    dataset = other_images()
    fresh, _ = begun(dataset, CONFIG)
    given, _ = begun(Dataset.open(data), replace(CONFIG, init=str(reference)))
    found, summary = begun(dataset, replace(CONFIG, init=str(reference)))
    changed = {"conv1_1": "1 -> 3 channels", "fc6": "10 -> 40 inputs", "fc8": "10 -> 12 classes"}
    words = ", ".join(f"{layer} ({what})" for layer, what in changed.items())
    assert summary == f"{reference}, but fresh: {words}"
    for name, array in found.items():
        source = fresh if name.partition(".")[0] in changed else given
        assert array.tobytes() == source[name].tobytes(), name


def test_ranks_debug_resuming_and_replay(data: Path, reference: Path, tmp_path: Path) -> None:
    """A run that has begun needs the file no more; one that begins again, in replay, does."""
    file = Path(shutil.copy(reference / "weights.h5", tmp_path))
    options = ("--data", data, *SMALL, *EPOCHS, "--seed", 5, "--ema", 0.9, "--init", file)
    status, output, errors = train(1, "--debug", "--out", tmp_path / "one", *options)
    assert status == 0, errors
    assert f"\ninit    {file}: all layers\n" in output
    stored = json.loads((tmp_path / "one" / "config.json").read_text())["config"]
    assert stored["init_sha256"] == load_weights(reference).sha256
    model = fit(Dataset.open(data), replace(CONFIG, ema=0.9, init=str(file)))
    assert model.sha256 == load_weights(tmp_path / "one").sha256
    assert model.sha256 != load_weights(reference).sha256

    folder = tmp_path / "several"
    assert struck(3, "1 4 forward kill", "--route", "flat", "--out", folder, *options)[0] != 0
    file.unlink()
    status, output, errors = train(1, "--resume", "--out", folder, "--init", file)
    assert status == 0, errors
    assert "resumed at step 3 of 6" in output  # the parameters of step 4 were still arriving
    assert outcome(folder) == outcome(tmp_path / "one")
    for name in ("weights", "average"):
        files = [load_weights(run / f"{name}.h5").sha256 for run in (folder, tmp_path / "one")]
        assert files[0] == files[1]

    refused(1, "dist_vgg.replay", [((folder, "--step", 1), f"no weights {file}")])
    save_weights(file, replace(load_weights(folder), step=0))
    refused(1, "dist_vgg.replay", [((folder, "--step", 1), f"--init {file} has other parameters")])
    shutil.copy(reference / "weights.h5", file)
    status, output, errors = here("dist_vgg.replay", folder, "--step", 1)
    assert status == 0, errors
    assert output.splitlines()[-1] == "step 1: the same bits"


def test_mistakes_are_one_line_on_every_rank(data: Path, reference: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes((reference / "weights.h5").read_bytes()[:-9])
    out, good = tmp_path / "run", reference / "weights.h5"
    run = ("--data", data, "--out", out, *SMALL)
    vgg = f"--init {good} has vgg16 of width 0.02, and this run trains"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--init", tmp_path / "gone.h5"), f"no weights {tmp_path / 'gone.h5'}"),
        (("--init", tmp_path), f"no weights {tmp_path / 'weights.h5'}"),
        (("--init", damaged), f"{damaged} can't be used as weights"),
        (
            ("--init", good, "--network", "vgg11"),
            f"{vgg} vgg11 of width 0.02: give --network vgg16",
        ),
        (
            ("--init", good, "--width", 0.03),
            f"{vgg} vgg16 of width 0.03: give --network vgg16 --wi",
        ),
        (("--init", good, "--init-sha256", "ab"), f"--init {good} has other parameters"),
        (("--init-sha256", "ab"), "--init-sha256 goes with --init"),
    ]
    refused(2, "dist_vgg.train", [((*run, *options), words) for options, words in cases])
    assert not out.exists()


def test_another_network_has_the_same_bits_at_any_ranks(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, *SMALL, "--epochs", 1, "--network", "vgg11")
    for ranks in (1, 2, 3):
        status, output, errors = train(ranks, "--out", tmp_path / str(ranks), *options)
        assert status == 0, errors
        assert "network VGG11 32x32x1, width 0.02, 12,138 parameters" in output
        assert outcome(tmp_path / str(ranks)) == outcome(tmp_path / "1")
    assert load_weights(tmp_path / "1").network["name"] == "vgg11"
    status, _, errors = train(1, "--resume", "--out", tmp_path / "2", "--network", "vgg16")
    assert status == 2
    assert "--network vgg16 contradicts the checkpoint, trained with --network vgg11" in one_line(
        errors
    )
    status, output, errors = train(1, "--resume", "--out", tmp_path / "2")
    assert status == 0, errors
    assert "network VGG11" in output
