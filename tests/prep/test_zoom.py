"""Images enlarged."""

import numpy as np

from data_prep.zoom import enlarge


def test_zoom_keeps_order_place_and_orientation() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[0, 0:4, 4:8] = 255  # above, on the right
    images[1, :, :] = 77
    large = enlarge(images, 64)
    assert large.shape == (2, 64, 64, 1)
    assert large.dtype == np.uint8
    assert (large[0, 4:28, 36:60] > 250).all()
    assert (large[0, 36:, :] < 5).all()
    assert (large[0, :, :28] < 5).all()
    assert (large[1] == 77).all()
