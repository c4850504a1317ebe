"""What predict answers, in lines and as JSON, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawings import seven, specks, uneven
from PIL import Image
from predicting import answer, refused, some_weights, three
from sets import KERNELS, without_numba

from dist_vgg.base.command_line import run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.predict import main
from dist_vgg.state.weights import save_weights


def test_one_line_for_each_image(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b c.jpg"]
    for path in paths:
        Image.fromarray(seven()).save(path)
    assert main([str(weights.parent), *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in paths]
    shares = [float(part.split()[1].rstrip("%")) for part in lines[0].split("(")[1][:-1].split(",")]
    assert lines[0].split(": ")[1][0] == lines[0].split("(")[1][0]
    assert 100 >= shares[0] >= shares[1] >= shares[2] >= 0


def test_any_kernels_predict(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(seven()).save(path)
    for name in (*KERNELS, "reference"):
        assert answer(capsys, weights, path, "--kernels", name)[0][0].isdigit()


def test_predict_says_what_brings_missing_kernels(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numba(monkeypatch)
    with pytest.raises(UserError, match=r"--kernels compiled is missing: .*dist_vgg\[fast\]"):
        main([str(weights), str(tmp_path), "--kernels", "compiled"])


def test_the_answer_does_not_depend_on_the_ground_but_on_the_digit(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark, light, turned = (tmp_path / f"{name}.png" for name in ("dark", "light", "turned"))
    Image.fromarray(seven()).save(dark)
    Image.fromarray(255 - seven()).save(light)
    Image.fromarray(np.rot90(seven()).copy()).save(turned)
    a, b, c = answer(capsys, weights, dark, light, turned)
    assert a == b != c


def test_as_is_only_resizes(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The answers differ, since the digit isn't brought to the middle.
    path = tmp_path / "digit.png"
    Image.fromarray(np.roll(seven(), 20, axis=1)).save(path)
    assert answer(capsys, weights, path) != answer(capsys, weights, path, "--as-is")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((28, 28), np.uint8),
        np.full((28, 28), 255, np.uint8),
        np.full((40, 30), 100, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.full((1, 500), 255, np.uint8),
        np.eye(3, dtype=np.uint8),
        np.zeros((28, 28), np.uint16),
        np.full((28, 28), 40000, np.uint16),
        specks(),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape} {pixels[0, 0]}",
)
@pytest.mark.filterwarnings("error")
def test_a_picture_of_nothing_gets_an_answer(
    pixels: np.ndarray, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nothing.png"
    Image.fromarray(pixels).save(path)
    for flags in ([], ["--as-is"]):
        (line,) = answer(capsys, weights, path, *flags)
        assert "nan" not in line


def test_weights_of_another_kind(tmp_path: Path) -> None:
    image = tmp_path / "digit.png"
    Image.fromarray(seven()).save(image)
    path = tmp_path / "weights.h5"
    assert refused(path, image).startswith(f"no weights {path};")
    path.write_text("weights")
    assert refused(path, image).startswith(f"{path} can't be used as weights")
    save_weights(path, some_weights(channels=3))
    assert refused(path, image).startswith(f"{path} is for images of several channels")
    save_weights(path, replace(some_weights(), params=np.zeros(7, np.float32)))
    assert refused(path, image).startswith("the weights hold 7 parameters and their network has")


def test_predict_is_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["predict", "weights.h5", "a.png"])
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        run_alone("dist_vgg.predict", main)
    assert ended.value.code == 2
    expected = "dist_vgg.predict: error: predict is one process: start it without mpirun\n"
    assert capsys.readouterr() == ("", expected)


def cloth() -> np.ndarray:
    """Soft spots as large as strokes, which stand out from each other no more than noise does."""
    spots = np.random.default_rng(1).normal(128, 8, (25, 20))
    return np.asarray(Image.fromarray(spots.astype(np.uint8)).resize((160, 200)))


GROUNDS = {
    "white": np.full((50, 60), 255, np.uint8),
    "black": np.zeros((28, 28), np.uint8),
    "grey": np.full((400, 300), 128, np.uint8),
    "lit from one side": uneven(np.zeros((200, 300), np.uint8), darkest=0.2),
    "noise": np.random.default_rng(0).integers(60, 200, (120, 100)).astype(np.uint8),
    "cloth": cloth(),
    "one pixel": np.zeros((1, 1), np.uint8),
    "specks": specks(),
}


@pytest.mark.parametrize("ground", GROUNDS)
def test_where_there_is_no_digit_none_is_found(
    ground: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.png"
    Image.fromarray(GROUNDS[ground]).save(path)
    assert answer(capsys, weights, path) == ["no digit found"]
    assert answer(capsys, weights, path, "--as-is") != ["no digit found"]


def test_one_bad_file_among_several(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digit, text, empty = three(tmp_path)
    assert main([str(weights), str(digit), str(text), str(empty)]) == 2
    output, errors = capsys.readouterr()
    first, second = output.splitlines()
    assert first.startswith(f"{digit}: ") and first.endswith("%)")
    assert second == f"{empty}: no digit found"
    assert errors == (
        f"dist_vgg.predict: error: {text} is no image that Pillow can read; "
        "name a PNG or JPEG file\n"
    )


def test_json(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digit, text, empty = three(tmp_path)
    (line,) = answer(capsys, weights, digit)
    assert main([str(weights), "--json", str(digit), str(text), str(empty)]) == 2
    seen, bad, nothing = json.loads(capsys.readouterr().out)
    assert seen["image"] == str(digit)
    assert str(seen["prediction"]) == line[0]
    assert len(seen["probabilities"]) == 10
    assert sum(seen["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert int(np.argmax(seen["probabilities"])) == seen["prediction"]
    assert bad == {
        "image": str(text),
        "prediction": None,
        "probabilities": None,
        "error": f"{text} is no image that Pillow can read; name a PNG or JPEG file",
    }
    assert nothing == {"image": str(empty), "prediction": None, "probabilities": None}
    assert main([str(weights), "--json", str(digit), str(empty)]) == 0
