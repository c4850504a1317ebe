"""Find the digit in a picture and bring it to MNIST's size and place.

The ground with its uneven light is taken off; what stands out from the noise that remains is ink,
and the ink is framed as MNIST's digits were (LeCun et al., 1998). It takes least squares for six
numbers, sums over boxes and one flood fill, so that it is soon rewritten in another language.
"""

import numpy as np
from PIL import Image

# MNIST's digits are scaled into 20x20 and put into 28x28 with their centre of mass on pixel 14.
SIDE, BOX = 28, 20
WORK = 320  # pixels a side at most in which a digit is looked for
FAINT = 8  # of 255 levels: what differs less from the ground is never ink
SMALLEST = 6  # pixels that a digit extends at least
CLEAR = 6  # times the noise that a digit's ink stands out at least; noise alone reaches 4
PART = 0.1  # of the ink of the largest part: a smaller one is a speck


def like_mnist(image: Image.Image) -> Image.Image | None:
    """The digit of a picture in grey levels, light on black, as in MNIST; None without one."""
    shrunk = image.reduce(-(-max(image.size) // WORK))
    rest, noise = without_ground(np.asarray(shrunk, np.float64))
    faintest = max(3 * noise, FAINT)
    # The ground is what there is more of, so the ink is the side that stands out from it more.
    darker, lighter = (np.maximum(sign * rest - faintest, 0).sum() for sign in (-1, 1))
    rest = -rest if darker > lighter else rest
    core = parts(rest, rest > faintest)
    if not core.any():
        return None
    strength = np.quantile(rest[core], 0.8)  # of a stroke's middle
    ink = parts(rest, rest > max(faintest, strength / 4))
    box = Image.fromarray(ink).getbbox()
    if box is None or strength < CLEAR * noise:
        return None
    left, top, right, bottom = box
    extent = max(right - left, bottom - top)
    # A stroke has a pixel in each of the rows or columns through which it goes; specks don't.
    if extent < max(SMALLEST, min(ink.shape) / 12) or ink.sum() < extent:
        return None
    near = box_sum(ink, max(1, round(extent / BOX))) > 0  # a stroke's soft edge belongs to it
    level = np.clip(rest / strength, 0, 1) * near
    return framed(level[top:bottom, left:right])


def without_ground(levels: np.ndarray) -> tuple[np.ndarray, float]:
    """How much each pixel differs from the ground around it, and the ground's own noise.

    The ground is a surface of second order through the pixels near it: at first those that are on
    the border's side of the best threshold. Then goes what their surroundings still differ by.
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
        near = close(rest, near)
    every, radius = np.full(near.shape, True), max(height, width) // 6
    for _ in range(2):
        count = box_sum(near, radius)
        mean = box_sum(rest * near, radius) / np.maximum(count, 1)
        rest = rest - mean * (count > 0.1 * box_sum(every, radius))
        near = close(rest, near)
    if rms(rest[near]) > 3:  # strokes survive the mean over 3x3 pixels, and most noise doesn't
        rest = box_sum(rest, 1) / box_sum(every, 1)
        near = close(rest, near)
    return rest, rms(rest[near])


def threshold(levels: np.ndarray) -> int:
    """The level that parts the pixels into two groups as different as can be (Otsu, 1979)."""
    counts = np.bincount(np.rint(levels).astype(int).ravel(), minlength=256).astype(np.float64)
    below, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    between = (total[-1] * below - total * below[-1]) ** 2 / np.maximum(below * above, 1)
    return int(np.argmax(between))


def close(rest: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The pixels that differ no more than usual from the ground, as far as it is known."""
    return np.abs(rest) <= max(2 * rms(rest[near]), FAINT)


def rms(rest: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(rest**2))) if rest.size else 0.0


def box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """The sum over the square around each pixel, as far as it is inside the picture."""
    sums = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    for axis, size in enumerate(values.shape):
        index = np.arange(size)
        ends = np.minimum(index + radius + 1, size), np.maximum(index - radius, 0)
        sums = sums.take(ends[0], axis) - sums.take(ends[1], axis)
    return sums


def parts(rest: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The ink without specks: the connected parts that have a good deal of the largest's ink."""
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
    """A digit that fills its box, with levels from 0 to 1, scaled and put as MNIST's are."""
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
