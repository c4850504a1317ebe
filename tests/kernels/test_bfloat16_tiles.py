"""bfloat16: its rounding, and tile products against their definition in exact fractions."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from llvmlite import binding

from dist_vgg.kernels import amx
from dist_vgg.kernels.bfloat16_format import narrowed, widened
from dist_vgg.kernels.machine_code import Function

ROOT = Path(__file__).parents[2]
PASSES = "dist_vgg.kernels.passes"
LEAVES = [
    "emulated_tiles",
    pytest.param("amx_tiles", marks=pytest.mark.skipif(bool(amx.why_not()), reason=amx.why_not())),
]


def draw(*shape: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(sum(shape)))
    return rng.standard_normal(shape, np.float32)


def nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a number; of two the even one."""
    near = np.float32(float(exact))
    around = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


def in_tiles(a: np.ndarray, b: np.ndarray) -> np.float32:
    """The sum of products of two vectors of bfloat16 in float32, by the definition."""
    a_, b_ = ([Fraction(float(x)) for x in v] for v in (a, b))
    total = np.float32(0)
    for k in range(0, len(a_), 32):
        chains = [np.float32(0), np.float32(0)]
        for i in range(k, k + 32):
            chains[i % 2] = nearest(a_[i] * b_[i] + Fraction(float(chains[i % 2])))
        total += chains[0] + chains[1]
    return total


def multiply(leaf: str, a: np.ndarray, b: np.ndarray, lines: int = 1) -> np.ndarray:
    """a @ b on tiles; the numbers of bfloat16 are in float32."""
    # a is (32*,K), b is (K,32), the result (32*,32)
    halves, k = narrowed(a).ravel(), a.shape[1]
    pairs = narrowed(b).reshape(k // 32, 16, 2, 2, 16).transpose(0, 3, 1, 4, 2).ravel()
    c = np.full((len(a), 32), np.nan, np.float32)
    places, step = [array.ctypes.data for array in (halves, pairs, c)], k // 32 // lines
    Function(f"{PASSES}.{leaf}.product")(
        places[0], 0, k, 32 * step, lines, step, places[1], 0, places[2], 0, 32, len(a), False
    )
    return c


def test_rounding_is_to_the_nearest_and_to_zero_below_the_smallest() -> None:
    given = {
        1.0: 0x3F80, -1.0: 0xBF80, 1 + 2**-8: 0x3F80, 1 + 3 * 2**-8: 0x3F82,
        1 + 2**-8 + 2**-20: 0x3F81, 2.0**-56: 0x2380, -(2.0**-56): 0xA380,
        2.0**-56 * (1 - 2**-24): 0, -(2.0**-57): 0, -0.0: 0,
        3.4e38: 0x7F80, np.inf: 0x7F80, -np.inf: 0xFF80, np.nan: 0x7FC0, -np.nan: 0x7FC0,
    }  # fmt: skip
    found = narrowed(np.array(list(given), np.float32))
    assert [hex(x) for x in found] == [hex(x) for x in given.values()]
    assert np.array_equal(narrowed(widened(found)), found)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_tile_adds_as_it_is_defined(leaf: str) -> None:
    a, b = (widened(narrowed(draw(*shape))) for shape in ((32, 96), (96, 32)))
    a[:, :40] *= 2.0**-9  # of different sizes, so that every rounding shows
    found = multiply(leaf, a, b)
    for i, j in [(0, 0), (5, 3), (16, 16), (31, 31), (12, 20)]:
        assert found[i, j] == in_tiles(a[i], b[:, j])


@pytest.mark.parametrize("leaf", LEAVES)
def test_nothing_is_denormal(leaf: str) -> None:
    sizes = np.exp2(-48 - np.arange(32)).astype(np.float32)
    a, b = draw(32, 32) * sizes[:, None], draw(32, 32) * sizes
    found, smallest = abs(multiply(leaf, a, b)), np.finfo(np.float32).tiny
    assert (found == 0).any() and (found >= smallest).any()
    assert not ((found > 0) & (found < smallest)).any()


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_row_depends_on_no_other(leaf: str) -> None:
    a, b = draw(128, 192), draw(192, 32)
    whole = multiply(leaf, a, b)
    assert np.array_equal(whole, multiply(leaf, a, b, lines=3))
    for row in (3, 40, 127):
        assert np.array_equal(whole[row], multiply(leaf, np.roll(a, -row, axis=0)[:32], b)[0])


def test_tiles_compile_to_their_instructions_and_registers() -> None:
    """On any processor of this kind: nothing is run."""
    if not binding.get_process_triple().startswith("x86_64"):
        pytest.skip("this processor's assembler knows no AMX")
    own = binding.get_host_cpu_features().flatten()
    environment = os.environ | {
        "NUMBA_CPU_NAME": "sapphirerapids",
        "NUMBA_CPU_FEATURES": f"{own},+amx-tile,+amx-bf16",
    }
    program = "import amx_assembly; print(amx_assembly.text())"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "tests", capture_output=True, text=True,
        env=environment | {"PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    lines = [line.split() for line in shown.stdout.splitlines()]
    found = [line for line in lines if line and line[0].startswith(("tile", "tdp", "ldtile"))]
    names = [line[0] for line in found]
    assert (names.count("ldtilecfg"), names.count("tilerelease")) == (1, 1)
    products = {" ".join(line[1:]) for line in found if line[0] == "tdpbf16ps"}
    assert products == {
        f"%tmm{b}, %tmm{a}, %tmm{c}" for c, a, b in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7))
    }
    for name, used in (("tilezero", "0123"), ("tilestored", "0123"), ("tileloadd", "01234567")):
        registers = re.findall(
            r"%tmm(\d)", " ".join(str(line) for line in found if line[0] == name)
        )
        assert set(registers) == set(used)
