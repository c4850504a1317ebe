"""Models: outputs, feature maps, scores, files."""

import json
from pathlib import Path

import numpy as np
import pytest
from launcher import here
from sets import KERNELS

from dist_vgg import Dataset, Model, UserError, load
from dist_vgg.data.samples import normalise
from dist_vgg.formats.trained import load_network
from dist_vgg.state.weights import load_weights


@pytest.fixture(scope="module")
def model(reference: Path) -> Model:
    return load(reference)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """More than a batch of them."""
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), np.uint8)


def test_it_is_found_by_a_path_or_its_text_or_a_run(reference: Path) -> None:
    for place in (reference, str(reference), reference / "weights.h5"):
        assert load(place).sha256 == load_weights(reference).sha256
    with pytest.raises(UserError, match="no weights none"):
        load("none")


def test_it_tells_what_it_is(model: Model) -> None:
    text = f"width 0.02, 10 classes, {len(model.params):,} parameters, step {model.step}>"
    assert repr(model) == f"<Model VGG16 32x32x1, {text}"


def test_outputs_are_those_of_the_network(
    model: Model, images: np.ndarray, reference: Path
) -> None:
    weights = load_weights(reference)
    x = normalise(images, weights.mean, weights.std)
    net = load_network(weights)
    logits = np.concatenate([net.forward(x[:32].copy()), net.forward(x[32:].copy())])
    for grey in (images, images[..., 0], images.tolist()):
        given = np.asarray(grey, np.uint8)
        np.testing.assert_array_equal(model.logits(given), logits)
    np.testing.assert_array_equal(model.probabilities(images), net.ops.softmax(logits))
    np.testing.assert_array_equal(model.predict(images), logits.argmax(axis=1))


def test_kernels_may_be_chosen(reference: Path, images: np.ndarray) -> None:
    found = {name: load(reference, kernels=name) for name in (*KERNELS, "reference")}
    for name, model in found.items():
        assert model._net.ops.NAME == model.copy()._net.ops.NAME == name
        expected = found["reference"].probabilities(images)
        np.testing.assert_allclose(model.probabilities(images), expected, rtol=1e-4)
    with pytest.raises(UserError, match="no kernels fast; choose one of auto, compiled, numpy"):
        load(reference, kernels="fast")


def test_features_are_what_each_layer_hands_on(
    model: Model, images: np.ndarray, reference: Path
) -> None:
    """Later layers work in place, and must not have changed what is given."""
    weights, seen = load_weights(reference), {}

    def keep(direction: str, layer: str, array: np.ndarray) -> None:
        seen[layer] = array.copy()

    x = normalise(images[:32], weights.mean, weights.std)
    load_network(weights).forward(x, None, keep)
    assert model.layers == list(seen)
    for layer, array in seen.items():
        np.testing.assert_array_equal(model.features(images, layer)[:32], array)
    assert model.features(images, "pool1").shape == (40, 16, 16, 1)
    assert model.features(images, "conv3_1").shape == (40, 8, 8, 5)


def test_parameters_are_views_by_name(model: Model) -> None:
    changed = model.copy()
    changed.parameters()["fc8.bias"][:] = 7
    assert changed.params[-10:].tolist() == [7] * 10
    assert changed.sha256 != model.sha256
    assert model.parameters()["conv1_1.weight"].shape == (3, 3, 1, 1)
    assert sum(each.size for each in model.parameters().values()) == len(model.params)


def test_a_saved_model_is_the_same_again(model: Model, tmp_path: Path) -> None:
    changed = model.copy()
    changed.params[0] += 1
    for path in (tmp_path / "a.h5", str(tmp_path / "b.h5")):
        changed.save(path)
        assert load(path).sha256 == changed.sha256 == load_weights(path).sha256


def test_a_model_saved_in_fewer_bytes(model: Model, tmp_path: Path) -> None:
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        path = tmp_path / f"{precision}.h5"
        model.save(path, precision=precision)
        sizes[precision], small = path.stat().st_size, load(path)
        np.testing.assert_allclose(small.params, model.params, atol=np.abs(model.params).max() / 99)
        # What is loaded is saved with the same parameters, in float32 unless told.
        small.save(tmp_path / "again.h5")
        assert load(tmp_path / "again.h5").sha256 == small.sha256
        assert (small.sha256 == model.sha256) == (precision == "float32")
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    with pytest.raises(UserError, match="no precision int4; choose one of float32, float16, int8"):
        model.save(tmp_path / "x.h5", precision="int4")


@pytest.mark.parametrize("shifts", [0, 2])
def test_its_score_is_that_of_the_command(
    model: Model, data: Path, reference: Path, tmp_path: Path, shifts: int
) -> None:
    words = ("--data", data, "--json", tmp_path / "score.json", "--shifts", shifts)
    status, _, errors = here("dist_vgg.evaluate", reference, *words)
    assert status == 0, errors
    told = json.loads((tmp_path / "score.json").read_text())
    told = told["shifted"] if shifts else told
    score = model.score(Dataset.open(data, "test"), shifts=shifts)
    assert score.confusion.tolist() == told["confusion"]
    assert (score.accuracy, score.loss) == (told["accuracy"], told["loss"])


def test_what_it_can_not_take_is_refused(model: Model, images: np.ndarray) -> None:
    with pytest.raises(UserError, match="no layer conv33_1; did you mean conv3_1"):
        model.features(images, "conv33_1")
    large, labels = np.zeros((2, 64, 64), np.uint8), np.array([0, 12])
    with pytest.raises(UserError, match="the images are 64x64x1 and the network takes 32x32x1"):
        model.logits(large)
    with pytest.raises(UserError, match="the images are float64; give uint8"):
        model.predict(images / 255)
    with pytest.raises(UserError, match="of 13 classes and the network knows 10"):
        model.score(Dataset(images[:2], labels, shards=1))
    with pytest.raises(UserError, match="shifts=32 is out of range; give 0 to 31"):
        model.score(Dataset(images[:2], [0, 1], shards=1), shifts=32)
