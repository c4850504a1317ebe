"""From a folder of coloured shapes to predictions, by the commands that a user gives."""

import json
import random
from pathlib import Path

import pytest
from launcher import here, run, train
from PIL import Image, ImageDraw

from dist_vgg.base.command_line import guarded
from dist_vgg.predict import main as predict

SHAPES = {"ball": (1.0, 1.0), "plank": (1.3, 0.5), "post": (0.5, 1.3)}  # half width and height
COLOURS = ("red", "lime", "blue", "yellow")
CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


def draw(name: str, luck: random.Random) -> Image.Image:
    """A shape somewhere on a dark ground, in a picture of any size."""
    colour, shape = name.split()
    image = Image.new("RGB", (luck.randint(60, 90), luck.randint(60, 90)))
    image.paste((luck.randint(0, 90), luck.randint(0, 90), luck.randint(0, 90)), (0, 0, 99, 99))
    wide, high = (luck.uniform(14, 20) * part for part in SHAPES[shape])
    x, y = luck.uniform(wide, image.width - wide), luck.uniform(high, image.height - high)
    box = (x - wide, y - high, x + wide, y + high)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "ball" else pen.rectangle)(box, fill=colour)
    return image


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, luck = tmp_path_factory.mktemp("shapes"), random.Random(0)
    for name in CLASSES:
        for number in range(100):
            path = folder / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            draw(name, luck).save(path)
    return folder


def test_twelve_classes_of_shapes(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    status, output, errors = run(
        1, "-m", "data_prep", "--source", "images", "--raw", shapes, "--out", data,
        "--size", 32, "--shards", 4, "--test-share", 0.2, "--held-out", 48, "--fit", "pad",
    )  # fmt: skip
    assert status == 0, errors
    assert "samples  912 train, 240 test, 48 held-out" in output
    status, output, errors = train(
        2, "--data", data, "--out", folder, "--network", "vgg11", "--width", 0.1, "--epochs", 8,
        "--optimizer", "adam", "--lr", 2e-3, "--dropout", 0.2, "--shift", 0.08, "--validate", 4,
        "--progress", "plain",
    )  # fmt: skip
    assert status == 0, errors
    assert "scores  the 48 held-out images after every 4 epochs" in output
    (last,) = [line for line in output.splitlines() if line.startswith("epoch 8/8: ")]
    assert "training accuracy" in last and "held-out accuracy" in last
    result = tmp_path / "score.json"
    status, _, errors = here("dist_vgg.evaluate", folder, "--data", data, "--json", result)
    assert status == 0, errors
    found = json.loads(result.read_text())
    assert found["class_names"] == sorted(CLASSES)
    assert found["accuracy"] > 0.95
    # One that was not among them.
    path = tmp_path / "new.png"
    draw("blue post", random.Random(1)).save(path)
    words = [str(folder), str(path), "--json"]
    assert guarded("dist_vgg.predict", lambda: predict(words)) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["class"] == "blue post"
