"""Changes of a file that the fuzz command draws: bits, bytes, numbers and pieces."""

import random
import struct

NUMBERS = [0, 1, 2, 3, 8, 127, 128, 255, 256, 511, 512, 65535, 65536, 2**31 - 1, 2**31]
NUMBERS += [2**32 - 1, 2**32, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(data: bytes, seeds: list[bytes], rng: random.Random) -> bytes:
    """Change a few bytes, numbers or pieces of a file."""
    it = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6, 12))):
        place = rng.randrange(len(it) + 1)
        end = min(len(it), place + int(rng.expovariate(1 / 12)) + 1)
        what = rng.randrange(10)
        if what <= 1 and it:
            it[place % len(it)] ^= 1 << rng.randrange(8)
        elif what <= 3 and it:
            it[place % len(it)] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
        elif what <= 6:
            value, size = rng.choice([*NUMBERS, len(it), place]), rng.choice((2, 4, 8))
            order = rng.choice(("<", ">"))
            packed = struct.pack(order + "Q", value)
            it[place : place + size] = packed[:size] if order == "<" else packed[-size:]
        elif what == 7:
            del it[place:end]
        elif what == 8:
            other = rng.choice([it, *seeds])
            start = rng.randrange(len(other) + 1)
            it[place:end] = other[start : start + end - place]
        elif rng.randrange(4):
            it[place:place] = it[place:end] * rng.choice((1, 1, 2, 1000))
        else:
            del it[place:]
    return bytes(it)
