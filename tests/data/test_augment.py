"""Augmentation: the same drawing for the same name, and no more variation than was asked for."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dist_vgg.data.augment import Augment, sample

ALL = Augment(rotate=15, scale=0.2, shear=10, shift=0.1, deform=0.03)
SIZE = 24
PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 1)).astype(np.uint8)
IDS = np.array([7, 3, 59_999, 0, 12])
NAMES = [field.name for field in fields(Augment)]


def sources(augment: Augment, sample_id: int = 0) -> np.ndarray:
    return augment.sources(1, 2, sample_id, SIZE, SIZE)


def offsets(augment: Augment, sample_id: int = 0) -> np.ndarray:
    """How far the source of each pixel is from the pixel."""
    return sources(augment, sample_id) - np.indices((SIZE, SIZE))


def test_a_drawing_depends_on_seed_epoch_and_sample_alone() -> None:
    drawn = ALL.draw(PIXELS, IDS, seed=1, epoch=2)
    rows = np.array([4, 1])
    np.testing.assert_array_equal(ALL.draw(PIXELS[rows], IDS[rows], 1, 2), drawn[rows])
    for other in (ALL.draw(PIXELS, IDS, 1, 3), ALL.draw(PIXELS, IDS, 2, 2)):
        assert (other != drawn).any(axis=(1, 2, 3)).all()
    assert (ALL.draw(PIXELS[:1], IDS[1:2], 1, 2) != drawn[0]).any()


@pytest.mark.parametrize("name", NAMES)
def test_each_strength_counts_and_none_changes_what_others_draw(name: str) -> None:
    assert bool(replace(Augment(), **{name: getattr(ALL, name)}))
    without = replace(ALL, **{name: 0.0})
    assert (sources(ALL) != sources(without)).any()
    # A shift comes last and so is the same whatever came before it.
    if name != "shift":
        moves = [sources(a) - sources(replace(a, shift=0.0)) for a in (ALL, without)]
        np.testing.assert_allclose(moves[0], moves[1], atol=1e-9)


def test_no_strength_leaves_images_as_they_are() -> None:
    assert not Augment()
    np.testing.assert_array_equal(Augment().draw(PIXELS, IDS, 1, 2), PIXELS)


def test_a_rotation_keeps_distances_and_its_limit() -> None:
    centre = (SIZE - 1) / 2
    before = np.indices((SIZE, SIZE)) - centre
    for sample_id in range(50):
        after = sources(Augment(rotate=15), sample_id) - centre
        np.testing.assert_allclose((after**2).sum(0), (before**2).sum(0), atol=1e-9)
        cos = (after * before).sum(0) / (before**2).sum(0)
        assert np.degrees(np.arccos(np.clip(cos, -1, 1))).max() <= 15 + 1e-6


def test_a_scale_stretches_each_axis_within_its_limit() -> None:
    steps = np.array([
        [np.diff(rows, axis=0)[0, 0], np.diff(columns, axis=1)[0, 0]]
        for rows, columns in (sources(Augment(scale=0.2), i) for i in range(200))
    ])  # fmt: skip
    assert steps.max() <= 1.2
    assert steps.min() >= 1 / 1.2
    assert np.ptp(steps, axis=0).min() > 0.3
    assert abs(np.corrcoef(steps.T)[0, 1]) < 0.2


def test_a_shear_leans_verticals_and_keeps_rows() -> None:
    leans = []
    for sample_id in range(100):
        rows, columns = offsets(Augment(shear=10), sample_id)
        assert not rows.any()
        leans.append(np.degrees(np.arctan(np.diff(columns, axis=0)[0, 0])))
    assert max(np.abs(leans)) <= 10 + 1e-6
    assert min(leans) < -8
    assert max(leans) > 8


def test_a_shift_moves_all_pixels_alike() -> None:
    moves = np.array([offsets(Augment(shift=0.1), i)[:, :1, :1] for i in range(200)])
    np.testing.assert_allclose(offsets(Augment(shift=0.1)), np.broadcast_to(moves[0], (2, 24, 24)))
    assert np.abs(moves).max() <= 0.1 * SIZE
    assert moves.min() < -0.09 * SIZE < 0.09 * SIZE < moves.max()


def test_a_deformation_is_smooth_and_as_strong_as_it_says() -> None:
    moves = np.array([offsets(Augment(deform=0.03), i) for i in range(300)])
    assert np.sqrt((moves**2).mean()) == pytest.approx(0.03 * SIZE, rel=0.05)
    assert np.abs(np.diff(moves, axis=2)).max() < 1  # no pixel passes its neighbour
    ends = np.sqrt((moves**2).mean(axis=(0, 1)))
    assert ends.max() < 1.5 * ends.min()  # at the edges as in the middle


def test_samples_between_pixels_are_bilinear_and_zero_outside() -> None:
    image = np.array([[[1.0], [3.0]], [[5.0], [9.0]]])
    rows = np.array([[0, 0.5, 1, 0.5], [-0.5, -1, 1.5, 9]])
    columns = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, -1e9]])
    expected = [[1, 3, 7, 4.5], [0.5, 0, 4.5, 0]]
    np.testing.assert_allclose(sample(image, rows, columns)[..., 0], expected)


def test_channels_are_bent_alike() -> None:
    three = np.repeat(PIXELS, 3, axis=3)
    drawn = ALL.draw(three, IDS, 1, 2)
    np.testing.assert_array_equal(drawn, np.repeat(ALL.draw(PIXELS, IDS, 1, 2), 3, axis=3))


def test_what_a_name_draws_stays_what_it_was() -> None:
    # Weights that are known by their hash depend on it.
    corners = sources(ALL)[:, :: SIZE - 1, :: SIZE - 1].ravel()
    expected = [
        -0.776574, -6.77948, 26.765188, 19.897113, 0.736866, 24.055033, 3.836062, 26.420616
    ]  # fmt: skip
    np.testing.assert_allclose(corners, expected, atol=1e-5)
