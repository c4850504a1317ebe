"""Name every test image of MNIST to which ONNX Runtime gives another class than our network.

    python tests/differing.py runs/NAME ../shared/mnist

Both compute the same weights, each in float32, float16 and int8. The classes of an image can only
differ where its two largest logits are as close as the rounding of sums is large.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from data_prep.idx import read_idx
from data_prep.idx_set import FILES, find_file
from data_prep.raw import ArrayPictures
from dist_vgg.data.samples import normalise
from dist_vgg.formats.onnx_graph import INPUT, as_onnx
from dist_vgg.formats.trained import load_network, read_trained, round_weights
from dist_vgg.state.precision import PRECISIONS
from dist_vgg.state.weights import Weights

BATCH = 100


def mnist_images(folder: Path, size: int, count: int = 10_000) -> np.ndarray:
    """Test images, the first `count`, as data_prep makes them: (count, size, size, 1) uint8."""
    path = find_file(folder, FILES["test"][0])
    assert path
    pictures = ArrayPictures(read_idx(path, 3))
    return np.stack([pictures.pixels(row, size, 1, "stretch") for row in range(count)])


def session_of(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime's network of a file's content."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def runtime_logits(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of images, (N,H,W,C) uint8."""
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    (logits,) = session.run(None, {INPUT: pixels})
    return np.asarray(logits)


def both_logits(weights: Weights, images: np.ndarray, precision: str) -> Iterator[np.ndarray]:
    """Ours and ONNX Runtime's of each batch, (2, n, classes), with weights of this precision."""
    net = load_network(weights)
    weights = round_weights(weights, net, precision)
    net.bind(weights.params, weights.params)
    session = session_of(as_onnx(weights, net))
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        ours = net.forward(normalise(some, weights.mean, weights.std))
        yield np.stack([ours, runtime_logits(session, some)])


def differing(ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """A line for each image whose class is another one."""
    found, other = ours.argmax(axis=1), theirs.argmax(axis=1)
    return [
        f"image {i}: {found[i]} here, {other[i]} in ONNX Runtime, logits {ours[i, found[i]]:.6f} "
        f"and {ours[i, other[i]]:.6f} here"
        for i in np.flatnonzero(found != other)
    ]


def main() -> None:
    """Print the lines of each precision."""
    weights = read_trained(sys.argv[1])
    images = mnist_images(Path(sys.argv[2]), weights.network["size"])
    for precision in PRECISIONS:
        ours, theirs = np.concatenate(list(both_logits(weights, images, precision)), axis=1)
        lines = differing(ours, theirs)
        print(f"{precision}: {len(lines)} of {len(images):,} differ, ", end="")
        print(f"logits by at most {np.abs(ours - theirs).max():.1e}", *lines, sep="\n")


if __name__ == "__main__":
    main()
