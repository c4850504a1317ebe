"""Parameters in fewer bytes: what rounding keeps, and the files that hold it."""

import json
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import lies
import numpy as np
import pytest
from lies import edited, say
from trained import NETWORKS, ready, same

from dist_vgg.base.errors import UserError
from dist_vgg.formats.trained import matrices, round_weights
from dist_vgg.state.precision import PRECISIONS, dequantise, join, quantise, rounded, split
from dist_vgg.state.weights import VECTORS, Weights, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("quick_disk")

LAYOUT = ((6, 3), (2, 5))  # 6 * 3 + 3 + 2 * 5 + 5 parameters
COUNT = 36


def some(seed: int = 0, count: int = COUNT) -> np.ndarray:
    """Numbers of all sizes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count) * 10.0 ** rng.integers(-6, 4, count)
    return x.astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 7), (3, 3, 5, 7), (2, 2, 6, 7)])
def test_levels_are_within_half_a_step_and_exact(shape: tuple[int, ...]) -> None:
    for seed in range(20):
        weight = some(seed, int(np.prod(shape))).reshape(shape)
        levels, scales = quantise(weight)
        assert (levels.dtype, levels.shape, scales.shape) == (np.int8, shape, (7,))
        # The largest of each channel has the last level, so that no other is wasted.
        assert (np.abs(levels.astype(int)).max(axis=tuple(range(len(shape) - 1))) == 127).all()
        found = dequantise(levels, scales)
        assert found.dtype == np.float32
        assert (found == levels.astype(np.float64) * scales.astype(np.float64)).all()
        assert (np.abs(found - weight.astype(np.float64)) <= scales * 0.5000001).all()
        again = quantise(found)
        assert (again[0] == levels).all() and (again[1] == scales).all()


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 1e-39])
def test_a_channel_without_numbers_to_speak_of_becomes_0(value: float) -> None:
    weight = np.full((3, 2), value, np.float32)
    weight[:, 1] = (1, 2, -3)
    with np.errstate(all="raise", under="ignore"):
        levels, scales = quantise(weight)
    assert (levels[:, 0] == 0).all() and (dequantise(levels, scales)[:, 0] == 0).all()
    assert levels[2, 1] == -127 and scales[0] == 1


def test_biases_stay_as_they_are() -> None:
    params = some()
    parts = split(params, LAYOUT)
    assert {name: (len(part), part.dtype.name) for name, part in parts.items()} == dict(
        levels=(28, "int8"), scales=(8, "float32"), biases=(8, "float32")
    )
    back = join(parts, LAYOUT)
    for bias in (slice(18, 21), slice(31, 36)):
        assert (back[bias] == params[bias]).all()
    levels, _ = quantise(params[:18].reshape(6, 3))
    assert (parts["levels"][:18].reshape(6, 3) == levels).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_to_round_again_changes_nothing(precision: str) -> None:
    params = some()
    once = rounded(params, precision, LAYOUT)
    assert once.dtype == np.float32
    assert rounded(once, precision, LAYOUT).tobytes() == once.tobytes()
    assert (once == params).all() == (precision == "float32")


def test_numbers_that_do_not_fit() -> None:
    params = some()
    params[3] = 65520  # the smallest that rounds to infinity
    with pytest.raises(UserError, match="too large for float16; choose int8"):
        rounded(params, "float16", LAYOUT)
    params[3] = 65519
    assert rounded(params, "float16", LAYOUT)[3] == 65504
    for value in (np.nan, np.inf):
        params[3] = value
        for precision in PRECISIONS:
            with pytest.raises(UserError, match="not all finite"):
                rounded(params, precision, LAYOUT)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_files_of_each_precision_come_back(
    tmp_path: Path, network: dict[str, Any], precision: str
) -> None:
    weights, net = ready(network)
    small = round_weights(weights, net, precision)
    path = tmp_path / "weights.h5"
    save_weights(path, small)
    found = load_weights(path)
    expected = list(matrices(net)) if precision == "int8" else []
    assert [tuple(pair) for pair in found.layout] == list(small.layout) == expected
    same(replace(found, layout=()), replace(small, layout=()))
    bits = dict(float32=32, float16=16, int8=8)[precision]
    assert 0 <= path.stat().st_size - net.parameter_count * bits // 8 < 30_000


def test_a_file_of_float32_is_as_it_always_was(tmp_path: Path) -> None:
    weights, net = ready(NETWORKS[0])
    path = tmp_path / "weights.h5"
    save_weights(path, weights)
    before = path.read_bytes()
    with h5py.File(path) as file:
        assert not {"precision", "made_from", "layout"} & json.loads(file.attrs["header"]).keys()
        assert list(file) == ["params"]
    save_weights(path, round_weights(weights, net, "float32"))
    assert path.read_bytes() == before


def written(folder: Path, precision: str = "int8") -> Path:
    """A small file of weights; its parameters are those of no network."""
    path = folder / "weights.h5"
    network = dict(size=32, channels=1, classes=10, width=0.05)
    layout = LAYOUT if precision == "int8" else ()
    save_weights(
        path,
        Weights(
            network, (33.3,), (78.5,), "mnist", "ab" * 32, 7, "cd" * 32, some(),
            precision=precision, made_from="ef" * 32, layout=layout,
        ),
    )  # fmt: skip
    return path


def refused(path: Path) -> str:
    """Why the file is refused, in one line and at little cost."""
    tracemalloc.start()
    with pytest.raises(UserError) as raised:
        load_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    line = str(raised.value)
    assert line.startswith(f"{path} can't be used as weights (") and "\n" not in line
    return line


HEADERS: list[tuple[dict[str, Any], str]] = [
    (dict(precision="int4"), "its precision is out of bounds"),
    (dict(precision=["int8"]), "its precision is out of bounds"),
    (dict(precision="float32"), "it holds other things than it should"),
    (dict(precision="float16"), "it holds other things than it should"),
    (dict(made_from="x"), "its made_from is out of bounds"),
    (dict(made_from=None), "its made_from is out of bounds"),
    (dict(layout=[]), "damaged"),
    (dict(layout=[[6, 3]]), "damaged"),
    (dict(layout=[[6, 3], [2, 4]]), "damaged"),
    (dict(layout=[[6, 3], [2, 5], [1, 1]]), "damaged"),
    (dict(layout=[[3, 6], [2, 5]]), "damaged"),
    (dict(layout=[[2**31, 2**31], [2, 5]]), "damaged"),
    (dict(layout=[[2**40, 1], [2, 5]]), "its layout is out of bounds"),
    (dict(layout=[[-6, 3], [2, 5]]), "its layout is out of bounds"),
    (dict(layout=[[6.0, 3], [2, 5]]), "its layout is out of bounds"),
    (dict(layout=[[True, 3], [2, 5]]), "its layout is out of bounds"),
    (dict(layout=[[6, 3, 1], [2, 5]]), "its layout is out of bounds"),
    (dict(layout={"0": 1}), "its layout is out of bounds"),
    (dict(layout=[[1, 1]] * 1001), "its layout is out of bounds"),
]


@pytest.mark.parametrize(("fields", "reason"), HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    path = written(tmp_path)
    assert (load_weights(path).params == rounded(some(), "int8", LAYOUT)).all()
    say(path, **fields)
    assert f"({reason})" in refused(path)


@pytest.mark.parametrize("lie", lies.LIES, ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("name", VECTORS["int8"])
def test_a_vector_that_lies_is_refused(
    tmp_path: Path, lie: Callable[[h5py.File, str], None], name: str
) -> None:
    path = written(tmp_path)
    with edited(path) as file:
        lie(file, name)
    refused(path)


@pytest.mark.parametrize("name", VECTORS["int8"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_vector_of_another_length_is_refused(tmp_path: Path, name: str, change: int) -> None:
    path = written(tmp_path)
    with edited(path) as file:
        data = np.resize(file[name][...], len(file[name]) + change)
        del file[name]
        file[name] = data
    assert "(damaged)" in refused(path)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3e38])
def test_scales_of_any_value_warn_nobody(tmp_path: Path, scale: float) -> None:
    path = written(tmp_path)
    with edited(path) as file:
        file["scales"][...] = scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_weights(path).params.shape == (COUNT,)
