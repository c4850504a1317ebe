"""Records of copies in memory: their bytes, and what counts as a valid one."""

import mmap

import numpy as np
import pytest

from dist_vgg.state import record
from dist_vgg.state.record import RECORD

HEADER = dict(step=7, folder="/a/b", pieces=[(0, 512)])
NUMBERS = np.arange(5, dtype=np.uint64)


def memory(content: bytes, start: int = 0) -> mmap.mmap:
    space = mmap.mmap(-1, 2 * RECORD)
    space[start : start + len(content)] = content
    return space


def test_a_record_comes_back() -> None:
    content = record.pack(HEADER, NUMBERS.tobytes())
    found = record.unpack(memory(content, RECORD), RECORD)
    assert found
    header, numbers = found
    assert header == {**HEADER, "pieces": [[0, 512]]}
    assert np.array_equal(numbers, NUMBERS)


def test_its_bytes_are_those_of_earlier_versions() -> None:
    content = record.pack(dict(step=1), b"12345678")
    assert content[:24].hex() == "647667676d656d31" + "0b00000000000000" + "0800000000000000"
    assert content[24:56].hex() == (
        "4e636d62461d3c6879d257b41ade9f4805a20aea690c23ba3ff1dda4bbd03a04"
    )
    assert content[56:] == b'{"step": 1}12345678'


@pytest.mark.parametrize("place", [0, 9, 17, 40, 60, -1])
def test_one_wrong_bit_makes_it_invalid(place: int) -> None:
    content = bytearray(record.pack(HEADER, NUMBERS.tobytes()))
    content[place] ^= 1
    assert record.unpack(memory(bytes(content)), 0) is None


def test_a_record_must_lie_within_its_place() -> None:
    content = record.pack(HEADER, bytes(RECORD))
    assert record.unpack(memory(content), 0) is None
    assert record.unpack(memory(b""), 2 * RECORD - 10) is None
