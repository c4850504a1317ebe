"""The page's arithmetic beside ours: logits, feature maps, and the pixels that the network sees."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import photos
import pytest
import scripts
from browser import engine, opened
from drawings import seven, specks, uneven
from PIL import Image
from PIL import __version__ as pillow
from playwright.sync_api import Browser, Page
from predicting import some_weights

from dist_vgg.data.samples import normalise
from dist_vgg.formats.trained import load_network, round_weights
from dist_vgg.predict import answer

# Earlier ones resize tall images in another order, with other rounding.
LEVELS = 1 if int(pillow.partition(".")[0]) >= 13 else 8
SHAPES = [
    dict(size=64, channels=1, classes=10),
    dict(size=96, channels=3, classes=12),
    dict(size=32, channels=1, classes=3, name="vgg11", width=0.1),
]


@pytest.fixture
def blank(browser: Browser) -> Iterator[Page]:
    with opened(browser, "about:blank") as page:
        yield page


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape['size']}x{shape['channels']}")
def test_logits_and_maps_are_ours(blank: Page, shape: dict) -> None:
    weights = some_weights(**shape)
    mean, std = ((10.0, 120.0, 200.0), (50.0, 60.0, 70.0))
    several = shape["channels"] == 3
    weights = replace(weights, preparation="crop", **(dict(mean=mean, std=std) if several else {}))
    for slot in load_network(weights, "numpy").slots:
        if slot.is_bias:  # an untrained network's are 0
            weights.params[slot.lo : slot.hi] = np.linspace(-0.1, 0.1, slot.hi - slot.lo)
    weights = round_weights(weights, load_network(weights, "numpy"), "int8")
    net = load_network(weights, "numpy")
    images = np.random.default_rng(0).integers(0, 256, (3, *net.input_shape), dtype=np.uint8)
    outputs: dict[str, np.ndarray] = {}
    ours = net.forward(
        normalise(images, weights.mean, weights.std),
        watch=lambda _, layer, array: outputs.__setitem__(layer, array.copy()),
    )
    scripts.load(blank, weights, net)
    np.testing.assert_allclose(scripts.logits(blank, images), ours, 1e-4, 1e-5 * np.abs(ours).max())
    blocks = blank.evaluate("pixels => window.maps(pixels)", images[0].ravel().tolist())
    assert len(blocks) == 5
    for number, block in enumerate(blocks, start=1):
        expected = outputs[f"relu{number}"][0]
        assert (block["height"], block["width"], block["channels"]) == expected.shape
        np.testing.assert_allclose(block["values"], expected.ravel(), 1e-4, 1e-5 * expected.max())


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def pictures(folder: Path) -> Iterator[Path]:
    """Digits on paper, on a board, on nothing, tiny and huge, and what is no digit."""
    digit = seven()
    ink = np.zeros((*digit.shape, 4), np.uint8)
    ink[..., 3] = digit
    grey = Image.fromarray(digit)
    yield save(folder / "board.png", digit)
    yield save(folder / "paper.png", uneven(digit))
    yield save(folder / "ink.png", ink)
    chalk = ink.copy()
    chalk[..., :3] = 255
    yield save(folder / "chalk.png", chalk)
    yield save(folder / "soft.png", np.asarray(Image.fromarray(ink).resize((200, 333))))
    yield save(folder / "large.png", uneven(np.asarray(grey.resize((601, 917)))))
    yield save(folder / "narrow.png", digit[20:70, 30:45])
    yield save(folder / "tiny.png", np.asarray(grey.resize((20, 30))))
    yield save(folder / "specks.png", specks()[::4, ::4])
    yield save(folder / "white.png", np.full((40, 40), 255, np.uint8))


def compare(found: np.ndarray | None, frame: Image.Image | None, name: str) -> None:
    assert (found is None) == (frame is None), name
    if found is not None:
        ours = np.asarray(frame, int).ravel()
        assert np.abs(found - ours).max() <= LEVELS, name


def test_the_network_sees_what_predict_shows_it(page: Page, tmp_path: Path) -> None:
    weights = some_weights(size=64)
    net = load_network(weights, "numpy")
    found = 0
    for path in pictures(tmp_path):
        ours = answer(net, weights, path, as_is=False)
        seen = engine(page, path.read_bytes(), path.name)["seen"]
        compare(seen and np.array(seen["pixels"]), ours.frame, path.name)
        found += seen is not None
    assert found >= 7


def test_of_photos_too(page: Page, tmp_path: Path) -> None:
    weights = some_weights(size=64)
    net = load_network(weights, "numpy")
    images = np.stack([np.asarray(Image.fromarray(seven()).resize((28, 28)))] * 200)
    for photo in photos.photos(images, np.full(200, 7), seed=0, every=32):
        path = tmp_path / photo.name
        path.write_bytes(photo.data)
        seen = engine(page, photo.data, photo.name)["seen"]
        ours = answer(net, weights, path, as_is=False)
        compare(seen and np.array(seen["pixels"]), ours.frame, photo.name)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preparation", ["crop", "pad", "stretch"])
def test_other_pictures_are_fitted_as_predict_fits_them(
    blank: Page, tmp_path: Path, preparation: str, channels: int
) -> None:
    weights = replace(some_weights(channels=channels), preparation=preparation)
    net = load_network(weights, "numpy")
    scripts.load(blank, weights, net)
    rng = np.random.default_rng(0)
    for height, width, colours in [
        (40, 71, 3),
        (90, 33, 4),
        (33, 33, 3),
        (20, 20, 4),
        (150, 40, 3),
    ]:
        noise = rng.integers(0, 256, (height, width, colours), dtype=np.uint8)
        path = save(tmp_path / "picture.png", noise)
        compare(
            scripts.pixels(blank, path),
            answer(net, weights, path, as_is=False).frame,
            str(noise.shape),
        )
