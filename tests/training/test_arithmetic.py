"""What a run computes beside its network has the same bits on other processors."""

import os
import subprocess
import sys
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from training import small_options

from dist_vgg.data.batches import load_local
from dist_vgg.data.dataset import open_set
from dist_vgg.kernels import numpy_set
from dist_vgg.kernels.arithmetic import EXACT, NUMPY, Arithmetic
from dist_vgg.runs.config import TrainConfig
from dist_vgg.training.trainer import Trainer

SCRIPT = Path(__file__).parents[1] / "exact_numbers.py"
umath = import_module(f"numpy.{'_core' if hasattr(np, '_core') else 'core'}._multiarray_umath")
# Another processor for NumPy, OpenBLAS and the C library, whose words changed with version 2.33.
OTHERS: dict[str, dict[str, str]] = {
    "as it is": {},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "without vectors": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(umath.__cpu_dispatch__),
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,"
        "-AVX2_Usable,-FMA_Usable,-AVX512F_Usable",
    },
}
EXPECTED = """
weights fdea93f73fd5aa00
step d41801fbd2c3987a
cosine 0e2a574f0d6900db
adam 53a682536b83243c
images 897cf57b90186297
loss 2628d5fe14c3a4b1
shifts 84dbaec3016cdacd
norm 2cd7734f97f92660
"""


def numbers(which: str, processor: str) -> str:
    """The hashes that exact_numbers.py prints."""
    command = [sys.executable, str(SCRIPT), which]
    environment = {**os.environ, **OTHERS[processor]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("processor", OTHERS)
def test_other_processors_compute_the_same_bits(processor: str) -> None:
    assert numbers("EXACT", processor).split() == EXPECTED.split()


# Who calls what. Scores over shifts, which only evaluate asks for, call log_sum_exp as well.
USES = {
    "data.augment": {"normal", "cos", "sin", "tan", "power", "matmul", "total"},
    "exchange.partition": {"squares"},
    "network.vgg": {"normal", "power"},
    "training.agree": {"total", "power"},
    "training.micro_batches": {"total"},
    "training.optim": {"power", "adam"},
    "training.schedules": {"cos"},
    "training.scoring": {"total"},
}


def recording(arithmetic: Arithmetic, used: dict[str, set[str]]) -> Arithmetic:
    """The same functions, which note their names by the module that calls them."""

    def call(name: str, *args: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals["__name__"].removeprefix("dist_vgg.")
        used.setdefault(caller, set()).add(name)
        return getattr(arithmetic, name)(*args, **options)

    return Arithmetic(**{f.name: partial(call, f.name) for f in fields(Arithmetic)})


def trained(data: Path, **options: Any) -> Trainer:
    """A trainer in this process, after three steps and a score."""
    info = open_set(data)
    shards, held_out = (load_local(data, info, split, 0, 1, 0) for split in ("train", "test"))
    config = TrainConfig(**{**small_options(), **options, "kernels": "numpy"})
    trainer = Trainer(config, info, shards, MPI.COMM_SELF, held_out=held_out)
    trainer.start()
    for _ in range(3):
        trainer.train_step()
    trainer.validate()
    return trainer


def test_a_run_uses_the_arithmetic_of_its_kernels(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(rotate=10.0, shear=5.0, scale=0.1, deform=0.02, optimizer="adam", warmup=0)
    found = {}
    for name, arithmetic in (("NUMPY", NUMPY), ("EXACT", EXACT)):
        used: dict[str, set[str]] = {}
        monkeypatch.setattr(numpy_set, "ARITHMETIC", recording(arithmetic, used))
        found[name] = trained(data, **options)
        assert used == USES
    ours, theirs = found["EXACT"], found["NUMPY"]
    assert ours.route.vectors.digest() != theirs.route.vectors.digest()
    assert ours.lr(2) == pytest.approx(theirs.lr(2), rel=1e-15)
    assert ours.agreed.loss == pytest.approx(theirs.agreed.loss, rel=0.2)
