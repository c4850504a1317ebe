"""The spool gives back rows as an array does."""

from pathlib import Path

import numpy as np

from data_prep.spool import Spool


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 2), np.uint8)
    spool = Spool(tmp_path, (3, 4, 2))
    for row in rows:
        spool.append(row)
    assert not list(tmp_path.iterdir())  # it has no name
    assert len(spool) == 50 and spool.shape == rows.shape
    order = np.random.default_rng(1).permutation(50)
    for some in (slice(None), slice(7, 9), slice(40, 99), slice(0, 0), order, order[:0]):
        np.testing.assert_array_equal(spool[some], rows[some])
    some = np.array([3, 4, 5, 5, 0, 49])
    picked = spool.select(some)
    assert picked.shape == (6, 3, 4, 2)
    np.testing.assert_array_equal(picked[1:4], rows[some][1:4])
    spool.close()
