"""Find the digit in a picture and bring it to MNIST's size and place.

It subtracts the ground with its uneven light, takes what stands out from the remaining noise for
ink, and frames the ink as MNIST's digits were (LeCun et al., 1998). All it needs is least squares
for six numbers, sums over boxes and one flood fill, so that it is easy to port to other languages.
"""

import numpy as np
from PIL import Image

# MNIST's digits are scaled into 20x20 and put into 28x28 with their centre of mass on pixel 14.
SIDE, BOX = 28, 20
WORK = 320  # pixels: a larger picture is shrunk to this side before the search
FAINT = 8  # levels of 255: whatever differs less from the ground is never ink
SMALLEST = 6  # pixels that a digit extends at least
CLEAR = 6  # times the noise: a digit's ink stands out at least so much; noise alone reaches 4
PART = 0.1  # of the largest part's ink: a part with less is a speck


def like_mnist(image: Image.Image) -> Image.Image | None:
    """The digit in a grey picture, light on black as in MNIST; None where there is none."""
    shrunk = image.reduce(-(-max(image.size) // WORK))
    rest, noise = without_ground(np.asarray(shrunk, np.float64))
    faintest = max(3 * noise, FAINT)
    # Most of a picture is ground, so ink is whichever side stands out more, darker or lighter.
    darker, lighter = (np.maximum(sign * rest - faintest, 0).sum() for sign in (-1, 1))
    rest = -rest if darker > lighter else rest
    core = without_specks(rest, rest > faintest)
    if not core.any():
        return None
    strength = np.quantile(rest[core], 0.8)  # of a stroke's middle
    ink = without_specks(rest, rest > max(faintest, strength / 4))
    box = Image.fromarray(ink).getbbox()
    if box is None or strength < CLEAR * noise:
        return None
    left, top, right, bottom = box
    extent = max(right - left, bottom - top)
    # A stroke has a pixel in every row or column that it crosses; specks do not.
    if extent < max(SMALLEST, min(ink.shape) / 12) or ink.sum() < extent:
        return None
    near = box_sum(ink, max(1, round(extent / BOX))) > 0  # it includes a stroke's soft edge
    level = np.clip(rest / strength, 0, 1) * near
    return framed(level[top:bottom, left:right])


def without_ground(levels: np.ndarray) -> tuple[np.ndarray, float]:
    """How much each pixel differs from the ground around it, and the ground's own noise.

    First a surface of second order is fitted to the pixels that belong to the ground (to begin
    with, those on the border's side of the best threshold) and subtracted; then, twice, the local
    mean of those pixels.
    """
    height, width = levels.shape
    y, x = np.mgrid[0:height, 0:width]
    y, x = (2 * y + 1) / height - 1, (2 * x + 1) / width - 1
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    border = np.maximum(np.abs(x), np.abs(y)) > 1 - max(0.1, 1.5 / min(height, width))
    light = levels > threshold(levels)
    near = light if light[border].mean() > 0.5 else ~light
    for _ in range(10):
        a, b = terms[near], levels[near]
        # The small number keeps a picture of few pixels solvable.
        rest = levels - terms @ np.linalg.solve(a.T @ a + 1e-6 * np.eye(6), a.T @ b)
        near = near_ground(rest, near)
    every, radius = np.full(near.shape, True), max(height, width) // 6
    for _ in range(2):
        count = box_sum(near, radius)
        mean = box_sum(rest * near, radius) / np.maximum(count, 1)
        rest = rest - mean * (count > 0.1 * box_sum(every, radius))
        near = near_ground(rest, near)
    if rms(rest[near]) > 3:  # strokes survive the mean over 3x3 pixels, and most noise doesn't
        rest = box_sum(rest, 1) / box_sum(every, 1)
        near = near_ground(rest, near)
    return rest, rms(rest[near])


def threshold(levels: np.ndarray) -> int:
    """The level that splits the pixels into the two most different groups (Otsu, 1979)."""
    counts = np.bincount(np.rint(levels).astype(int).ravel(), minlength=256).astype(np.float64)
    below, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    between = (total[-1] * below - total * below[-1]) ** 2 / np.maximum(below * above, 1)
    return int(np.argmax(between))


def near_ground(rest: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The pixels that belong to the ground: they differ from it no more than usual.

    `near` are those that are known to belong to it.
    """
    return np.abs(rest) <= max(2 * rms(rest[near]), FAINT)


def rms(rest: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(rest**2))) if rest.size else 0.0


def box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """The sum over the square around each pixel, cut off at the picture's border."""
    sums = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    for axis, size in enumerate(values.shape):
        index = np.arange(size)
        ends = np.minimum(index + radius + 1, size), np.maximum(index - radius, 0)
        sums = sums.take(ends[0], axis) - sums.take(ends[1], axis)
    return sums


def without_specks(rest: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The ink without specks: its connected parts with enough ink, compared with the largest."""
    width = ink.shape[1] + 2  # with a frame around, so that no neighbour is outside
    todo = np.pad(ink, 1).ravel().tolist()
    weights = np.pad(rest, 1).ravel().tolist()
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    found = []
    for start in np.flatnonzero(todo).tolist():
        if todo[start]:
            todo[start] = False
            part = [start]
            for pixel in part:  # grows as its neighbours are found
                for step in around:
                    if todo[pixel + step]:
                        todo[pixel + step] = False
                        part.append(pixel + step)
            found.append((sum(weights[pixel] for pixel in part), part))
    largest = max((weight for weight, _ in found), default=0.0)
    kept = np.zeros(len(todo), bool)
    for weight, part in found:
        kept[part] = weight >= PART * largest
    return kept.reshape(-1, width)[1:-1, 1:-1]


def framed(level: np.ndarray) -> Image.Image:
    """A digit that fills its box, with levels 0 to 1, scaled and centred as in MNIST."""
    digit = Image.fromarray(np.rint(255 * level).astype(np.uint8))
    scale = BOX / max(digit.size)
    width, height = (max(1, round(side * scale)) for side in digit.size)
    pixels = np.asarray(digit.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    # A thin pen fades as a large picture shrinks: its twenty brightest pixels become white.
    white = np.sort(pixels, axis=None)[-BOX:][0]
    pixels = np.minimum(pixels * (255 / max(white, pixels.max() / 3)), 255)
    mass = pixels.sum()
    centre_x = (pixels.sum(axis=0) @ np.arange(width)) / mass
    centre_y = (pixels.sum(axis=1) @ np.arange(height)) / mass
    x, y = (
        int(np.clip(round(SIDE / 2 - centre), 0, SIDE - extent))
        for centre, extent in ((centre_x, width), (centre_y, height))
    )
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[y : y + height, x : x + width] = pixels.round()
    return Image.fromarray(frame)
