"""How the page does: its pictures, its logits and its delays, beside predict's.

python tests/page/measure_page.py runs/NAME --raw DIR

Of 230 pictures, those of tests/photos.py, it says how many the page and predict get right and how
far the pixels differ that they make of them; of MNIST's test images, how far the logits differ; and
how long after the last stroke of a digit the page names it.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1]))

import photos
from browser import STROKES, chromium, draw_stroke, engine, opened
from PIL import Image
from scripts import load, logits

from data_prep import mnist
from dist_vgg.data.pictures import network_pixels
from dist_vgg.data.samples import normalise
from dist_vgg.formats.html import write_html
from dist_vgg.formats.trained import load_network, read_trained, round_weights
from dist_vgg.network.sequential import Sequential
from dist_vgg.predict import answer
from dist_vgg.state.weights import Weights


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, help="weights.h5, or a run's folder")
    parser.add_argument("--raw", type=Path, required=True, help="folder of MNIST's four files")
    parser.add_argument("--seed", type=int, default=0, help="which pictures (default: 0, the test)")
    parser.add_argument("--images", type=int, default=1000, help="of the test set (default: 1000)")
    given = parser.parse_args()
    weights = read_trained(given.weights)
    weights = round_weights(weights, load_network(weights), "int8")
    net = load_network(weights)
    arrays = mnist.MNIST.read_folder(given.raw)
    images, labels = (arrays[name] for name in mnist.FILES["test"])
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file = Path(folder) / "digits.html"
        write_html(file, weights, net)
        print(f"{file.name}: {file.stat().st_size:,} bytes")
        with opened(browser, file.as_uri()) as page:
            measure_delays(page)
            measure_logits(page, net, weights, images[: given.images])
            measure_photos(page, net, weights, photos.photos(images, labels, given.seed))


def measure_delays(page: Page) -> None:
    """Print how long after the last stroke the page names a digit."""
    page.evaluate(
        """addEventListener("pointerup", () => {
            const start = performance.now();
            const look = () => {
                if (busy || pending) setTimeout(look, 1);
                else document.body.dataset.delay = performance.now() - start;
            };
            setTimeout(look, 0);
        });"""
    )
    digits, delays = list(STROKES), []
    for index in range(20):
        page.keyboard.press("Escape")
        for stroke in STROKES[digits[index % len(digits)]]:
            page.evaluate("delete document.body.dataset.delay")
            draw_stroke(page, stroke)
            page.locator("body[data-delay]").wait_for()
        delays.append(float(page.locator("body").get_attribute("data-delay") or ""))
    print(f"result after the last stroke: first {delays[0]:.0f} ms, ", end="")
    print(f"median {median(delays):.0f} ms, longest {max(delays):.0f} ms of {len(delays)}")


def measure_logits(page: Page, net: Sequential, weights: Weights, images: np.ndarray) -> None:
    """Print how far the page's logits are from ours, as parts of an image's largest."""
    size = net.input_shape[0]
    frames = [network_pixels(Image.fromarray(each), size, 1, "stretch") for each in images]
    pixels = np.stack(frames)
    ours = net.forward(normalise(pixels, weights.mean, weights.std))
    load(page, weights, net)
    theirs = logits(page, pixels)
    apart = np.abs(theirs - ours).max(axis=1) / np.abs(ours).max(axis=1)
    other = np.flatnonzero(ours.argmax(axis=1) != theirs.argmax(axis=1))
    print(
        f"logits of {len(ours)} test images: at most {apart.max():.1e} of the largest apart, ",
        end="",
    )
    print(f"another class in {len(other)}")


def measure_photos(page: Page, net: Sequential, weights: Weights, pictures: Any) -> None:
    """Print how many pictures the page and predict get right, and how they differ."""
    right = dict(page=0, predict=0)
    count, empty, far = 0, 0, []
    for photo in pictures:
        path = Path(tempfile.gettempdir()) / photo.name
        path.write_bytes(photo.data)
        ours = answer(net, weights, path, as_is=False)
        path.unlink()
        theirs = engine(page, photo.data, photo.name)
        p, seen = theirs["probabilities"], theirs["seen"]
        found = dict(page=p and int(np.argmax(p)), predict=ours.fields()["prediction"])
        count += photo.label is not None
        empty += photo.label is None and p is not None
        for who, prediction in found.items():
            right[who] += photo.label is not None and prediction == photo.label
        if (seen is None) != (ours.frame is None):
            far.append(f"{photo.name}: {found}")
        elif ours.frame is not None and seen is not None:
            frame = np.asarray(ours.frame, int).ravel()
            most = int(np.abs(frame - seen["pixels"]).max())
            if most > 1:
                far.append(f"{photo.name}: {most} levels apart; {found}")
    print(f"right of {count} pictures: {right}; {empty} predicted without a digit")
    print("\n".join(far) or "no pixel is more than one level apart")


if __name__ == "__main__":
    main()
