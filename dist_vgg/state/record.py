"""A record: what a copy of the training state in memory is, and the checksums it must have.

A record is valid where its own SHA-256 is right. In memory it is

    magic (8 bytes), bytes of text, bytes of numbers (uint64 each), SHA-256 of both (32 bytes)
    text       JSON: the step, its configuration, and where the vectors lie
    numbers    uint64: where each cell begins, then every vector's checksums, see checksums.py
"""

import hashlib
import json
import mmap
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

HEAD = struct.Struct("<8sQQ32s")
MAGIC = b"dvggmem1"
RECORD = 1 << 19  # bytes set aside for one; its numbers take at most 4,200 * 8 for each vector


def pack(header: Mapping[str, Any], numbers: bytes) -> bytes:
    """The bytes of a record; they may be more than the RECORD that are set aside."""
    text = json.dumps(header).encode()
    digest = hashlib.sha256(text + numbers).digest()
    return HEAD.pack(MAGIC, len(text), len(numbers), digest) + text + numbers


def unpack(memory: mmap.mmap, start: int) -> tuple[dict[str, Any], np.ndarray] | None:
    """Header and numbers of the record that begins at `start`; None where it is not valid."""
    if start + HEAD.size > len(memory):
        return None
    magic, text, numbers, digest = HEAD.unpack_from(memory, start)
    end = start + HEAD.size + text + numbers
    if magic != MAGIC or end > min(start + RECORD, len(memory)):
        return None
    content = memory[start + HEAD.size : end]
    if hashlib.sha256(content).digest() != digest:
        return None
    return json.loads(content[:text]), np.frombuffer(content[text:], np.uint64)
