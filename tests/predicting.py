"""What the tests of predict share: an untrained network, its answers, and its refusals."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import seven, uneven
from PIL import Image

from dist_vgg.base.errors import UserError
from dist_vgg.network.vgg import initialise, vgg
from dist_vgg.predict import main
from dist_vgg.state.weights import Weights

NETWORK: dict[str, Any] = dict(size=32, channels=1, classes=10, width=0.05)


def some_weights(**network: Any) -> Weights:
    """An untrained network's weights."""
    net = vgg(**{**NETWORK, **network})
    params = np.zeros(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    last = net.slots[-2]
    params[last.lo : last.hi] *= 10  # such that its answers differ from image to image
    return Weights(
        network={**NETWORK, **network},
        mean=(33.3,),
        std=(78.5,),
        source="mnist",
        dataset="ab" * 32,
        step=1,
        sha256="cd" * 32,
        params=params,
    )


def answer(capsys: pytest.CaptureFixture[str], *argv: object) -> list[str]:
    """What predict says of each image, without the path."""
    assert main([str(arg) for arg in argv]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return [line.split(": ", 1)[1] for line in output.splitlines()]


def refused(*argv: object) -> str:
    """The line in which predict refuses the options, the weights or the only image."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            assert main([str(arg) for arg in argv]) == UserError.status
        start, line = "dist_vgg.predict: error: ", told.getvalue()
        assert line.startswith(start) and line.endswith("\n")
        line = line[len(start) : -1]
    except UserError as error:
        line = str(error)
    assert "\n" not in line
    return line


def three(folder: Path) -> list[Path]:
    """A digit, a file that is no image, and a picture without a digit."""
    digit, text, empty = (folder / name for name in ("digit.png", "text.png", "empty.png"))
    Image.fromarray(uneven(seven())).save(digit)
    text.write_text("seven")
    Image.fromarray(np.full((40, 50), 90, np.uint8)).save(empty)
    return [digit, text, empty]
