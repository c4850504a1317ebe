"""Every random number comes from a stream that is named by what it is for.

A stream is a counter-based generator (Philox4x64-10, Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC'11). Its key is the seed and the purpose; its counter
starts at the place in the training that the number belongs to. So nothing depends on
which rank draws, or on what was drawn before.
"""

import hashlib

import numpy as np


def philox(seed: int, purpose: str, *place: int) -> np.random.Philox:
    """The bit generator for a purpose ("init/conv1_1", "shuffle") at a place in the training.

    `place` is at most three integers in 0..2**64-1, such as (step, sample id). Streams of
    different seeds, purposes or places never overlap: the lowest of the four counter words
    is left to count what is drawn.
    """
    if len(place) > 3:
        raise ValueError(f"a stream has at most 3 places, not {len(place)}")
    purpose_word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    counter = [0, *place, *(0,) * (3 - len(place))]
    return np.random.Philox(
        key=np.array([seed, purpose_word], dtype=np.uint64),
        counter=np.array(counter, dtype=np.uint64),
    )


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """NumPy's Generator on the stream `philox(seed, purpose, *place)`."""
    return np.random.Generator(philox(seed, purpose, *place))
