"""Slices of gradients from their factors, and the rules of sizes; on ranks: check_factors.py."""

from collections.abc import Sequence
from pathlib import Path

import launcher
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training import EPOCHS, INSIDE, SMALL, outcome, small_options

from dist_vgg.exchange.factors import Product, Products
from dist_vgg.kernels.reference import linear_backward_weights
from dist_vgg.network.vgg import vgg

ONE, OTHER = Product(7, 5, 9), Product(61, 9, 4)
COUNTS = (2, 0, 1)


def whole_numbers(product: Product) -> tuple[np.ndarray, np.ndarray]:
    """Factors whose products are exact, in whatever way they are computed."""
    rng = np.random.default_rng(product.lo)
    x, dy = (rng.integers(1, 9, (3, k)) for k in (product.inputs, product.outputs))
    return x.astype(np.float32), dy.astype(np.float32)


@given(edges=st.tuples(st.integers(0, 101), st.integers(0, 101)))
def test_any_slice_is_that_of_the_whole(edges: tuple[int, int]) -> None:
    lo, hi = sorted(edges)
    products = Products((ONE, OTHER), 2, linear_backward_weights)
    whole, part = np.zeros((2, OTHER.hi), np.float32)
    for product in products.all:
        x, dy = whole_numbers(product)
        whole[product.lo : product.bias] = (x.T @ dy).ravel()
        whole[product.bias : product.hi] = dy.sum(axis=0)
        products.write_part(part, lo, hi, product, [x[:2], x[2:2], x[2:]], dy, COUNTS)
    whole[:lo], whole[hi:] = 0, 0  # and nothing else is written
    assert np.array_equal(part, whole)


def of_network(width: float, micro_batch: int, size: int = 64) -> Products:
    slots = vgg(width=width, size=size).products
    found = [Product(slot.lo, *slot.shape) for slot in slots]
    return Products(found, micro_batch, linear_backward_weights)


def test_factors_travel_where_they_are_fewer_numbers() -> None:
    def rule(micro_batch: int, shards: int = 8, width: float = 1.0) -> Sequence[bool]:
        products = of_network(width, micro_batch)
        return products.pay(shards), products.at_every_node(shards)

    assert rule(16) == (True, True)
    assert rule(128) == (True, False)
    assert rule(256) == (False, False)
    assert rule(16, width=0.05) == (False, True)


def test_the_runs_of_other_tests_exchange_factors() -> None:
    """So that all they say of the route "flat" is said of factors, too."""
    small = small_options()
    assert of_network(small["width"], small["micro_batch"], size=32).pay(8)


@pytest.mark.parametrize("recipe", [("--optimizer", "adam", "--ema", 0.9), ("--clip", 0.1)])
def test_hosts_have_the_outcome_of_one_rank(
    recipe: tuple[object, ...], data: Path, tmp_path: Path
) -> None:
    """Each of three updates the fully connected layers itself."""
    for ranks in (1, 3):
        options = ("--data", data, "--out", tmp_path / str(ranks), *SMALL, *EPOCHS, *recipe)
        script = INSIDE / "hosts_train.py"
        status, _, errors = launcher.run(ranks, script, *options, "--route", "flat")
        assert status == 0, errors
    assert outcome(tmp_path / "1") == outcome(tmp_path / "3")
