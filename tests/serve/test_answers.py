"""Requests that come together are computed together, and no answer depends on the others."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from predicting import some_weights
from serving import in_a_loop
from sets import KERNELS

from dist_vgg.formats.trained import load_network
from dist_vgg.network.vgg import vgg16
from dist_vgg.serve.answers import Answers, Asked, images_at_once
from dist_vgg.serve.batching import Batcher


@pytest.mark.parametrize("kernels", [*KERNELS, "reference"])
def test_an_answer_does_not_depend_on_its_neighbours(kernels: str) -> None:
    weights = some_weights()
    net = load_network(weights, kernels)
    answers = Answers(weights, net)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 1), np.uint8)
    asked = [Asked(image, maps=i % 3 == 0) for i, image in enumerate(images)]

    async def together() -> list[tuple[np.ndarray, Sequence[object]]]:
        return await asyncio.gather(*map(answers._compute.result, asked))

    found = in_a_loop(together())
    for one, (p, maps) in zip(asked, found, strict=True):
        ((expected, expected_maps),) = answers._computed([one])
        assert (p == expected).all()
        assert len(maps) == len(expected_maps) == 5 * one.maps
        for own, alone in zip(maps, expected_maps, strict=True):
            assert (own.values == alone.values).all()


def test_only_kernels_without_ties_between_images_compute_batches() -> None:
    assert images_at_once(vgg16(width=0.05, kernels="numpy")) == 1
    if "compiled" in KERNELS:
        assert images_at_once(vgg16(width=0.05, kernels="compiled")) == 32
        assert images_at_once(vgg16(size=1024, width=0.05, kernels="compiled")) == 10


def test_a_batch_is_what_waits_and_still_is_wanted() -> None:
    busy, go, batches = threading.Event(), threading.Event(), []

    def work(items: Sequence[int]) -> list[int]:
        busy.set()
        assert go.wait(10)
        batches.append(list(items))
        return [10 // item for item in items]

    async def ask() -> list[int | BaseException]:
        batcher = Batcher(work, threads=1, at_once=3)
        tasks = [asyncio.create_task(batcher.result(1))]
        while not busy.is_set():
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(batcher.result(item)) for item in (2, 3, 4, 0, 5)]
        await asyncio.sleep(0)  # now they wait
        tasks[2].cancel()
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = in_a_loop(ask())
    assert batches == [[1], [2, 4], [0, 5]]
    assert found[:2] == [10, 5] and found[3] == 2
    assert [type(each) for each in found[2::2]] == [asyncio.CancelledError, ZeroDivisionError]
    assert type(found[5]) is ZeroDivisionError
