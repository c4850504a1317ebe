"""The bits of NumPy's kernels stay what they were: runs that people have stored depend on them."""

import platform
from pathlib import Path

import pytest
from launcher import field, run

from dist_vgg.base import machine

# Of the final parameters, by the version of OpenBLAS.
SHA256 = {"0.3.31.188.0": "2f543eed2bef36885bfe30915ff03b02e83a161a4f4e0ef4249983a163338193"}
# OpenBLAS and NumPy choose functions for the processor, and those for AVX-512 round otherwise.
FIXED = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# So wide that all but the first and the last layers take Winograd's convolution.
TRAINED = ("--kernels", "numpy", "--width", 0.25, "--micro-batch", 8, "--epochs", 3)


def openblas() -> str:
    """The version of NumPy's OpenBLAS; skips where there is no hash of it, or no AVX2."""
    found = " ".join(machine.blas_kernels())
    version = next((known for known in SHA256 if f"openblas {known} " in f"{found} "), "")
    if not version:
        pytest.skip(f"no hash is stored for the BLAS {found}")
    path = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not path.exists() or "avx2" not in path.read_text():
        pytest.skip("OpenBLAS' kernels for Haswell need AVX2")
    return version


def test_a_run_has_the_bits_that_it_always_had(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of this hash needs a new VERSION of the numpy set, and a line in the changelog."""
    version = openblas()
    for name, value in FIXED.items():
        monkeypatch.setenv(name, value)
    options = ("--data", data, "--out", tmp_path / "run", *TRAINED)
    status, output, errors = run(1, "-m", "dist_vgg.train", *options)
    assert status == 0, errors
    assert "Haswell" in output
    assert field(output, "parameters") == SHA256[version]
