"""The benchmarks: each runs in small, says what it should, and leaves nothing behind."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from launcher import OPEN_MPI, finish, start
from sets import KERNELS

from dist_vgg.base import table
from dist_vgg.base.command_line import guarded
from dist_vgg.base.errors import UserError
from dist_vgg.bench import __main__ as bench
from dist_vgg.bench import comparison, processes
from dist_vgg.bench.against import RUNTIMES
from dist_vgg.bench.chart import Chart, draw
from dist_vgg.bench.flops import network_flops
from dist_vgg.bench.layer_probes import errors
from dist_vgg.bench.readings import Readings
from dist_vgg.kernels import numpy_set, reference, sets
from dist_vgg.kernels.protocol import Kernels
from dist_vgg.mpi import mpirun
from dist_vgg.network.layers import Conv
from dist_vgg.network.vgg import vgg16

SMALL = ("--width", "0.05", "--products", "64", "--repeat", "2")
QUICK = (*SMALL, "--seconds", "0.01")


@pytest.fixture(autouse=True)
def open_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def compiled() -> None:
    """Compile what is to be, which says so, before a test looks at what a benchmark says."""
    if sets.COMPILED in KERNELS:
        sets.load(sets.COMPILED)


def run_bench(argv: Sequence[str]) -> int:
    """Run the command in this process; its exit status."""
    return guarded("dist_vgg.bench", lambda: bench.main(argv))


@pytest.fixture
def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a benchmark: what it printed, and the results in its JSON."""

    def run(*argv: str) -> tuple[str, dict[str, Any]]:
        path = tmp_path / "found.json"
        status = run_bench([*argv, "--json", str(path)])
        output, errors = capsys.readouterr()
        assert (status, errors) == (0, "")
        found = json.loads(path.read_text())
        assert found["benchmark"] == argv[0]
        assert found["command"].startswith(f"python -m dist_vgg.bench {argv[0]}")
        assert found["machine"]["processor"]
        assert found["machine"]["versions"]["numpy"] in output
        assert found["command"] in output
        return output, found["results"]

    return run


@pytest.fixture
def stub(tmp_path: Path) -> Any:
    """An executable that stands for a Python with torch and does what it is given."""

    def make(lines: str) -> str:
        path = tmp_path / "python-with-torch"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_operations_of_the_full_network() -> None:
    forward, backward = network_flops(vgg16())
    assert forward + backward == pytest.approx(7.64e9, rel=0.01)
    assert forward == 2 * 1_273_274_368  # what `summary` has as multiply-adds
    assert backward == 2 * forward - 2 * 9 * 1 * 64 * 64 * 64  # nobody needs conv1_1's dx


def test_operations_of_the_convolutions_by_hand() -> None:
    net = vgg16()
    net.layers = [layer for layer in net.layers if not layer.name.startswith(("fc", "drop"))]
    # (side, channels, filters) of each
    shapes = [(64, 1, 64), (64, 64, 64), (32, 64, 128), (32, 128, 128), (16, 128, 256)]
    shapes += [(16, 256, 256)] * 2 + [(8, 256, 512)] + [(8, 512, 512)] * 2 + [(4, 512, 512)] * 3
    assert sum(isinstance(layer, Conv) for layer in net.layers) == len(shapes)
    expected = sum(2 * side * side * 9 * c * f for side, c, f in shapes)
    assert network_flops(net) == (expected, 2 * expected - 2 * 64 * 64 * 9 * 64)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kernels", KERNELS)
def test_kernels(kernels: str, measured: Any) -> None:
    small = (*SMALL, "--width", "0.25", "--micro-batch", "2")
    output, found = measured("kernels", *small, "--kernels", kernels)
    names = [name for layer in found["layers"] for name in layer["names"]]
    expected = [layer.name for layer in vgg16().layers if layer.name != "flatten"]
    assert sorted(names) == sorted(expected)
    for layer in found["layers"]:
        assert list(layer["ms"]) == [kernels, "reference"]
        assert all(len(one["values"]) == 2 for both in layer["ms"].values() for one in both)
        assert list(layer["errors"]) == [kernels, "reference"] * (
            layer["kind"] in ("Conv", "Linear")
        )
    (header,) = (line for line in output.splitlines() if line.startswith("layer"))
    assert f"{kernels}, ms" in header
    assert "reference, ms" in header
    assert "conv3_2 x2" in output
    assert "conv5_1 x3" in output
    assert found["ms_an_image"]["as trained"] == found["ms_an_image"][kernels]
    inside = found.get("products", {})
    assert bool(inside) == (kernels == "compiled")
    assert ("of our own 64x64x64 product" in output) == bool(inside)
    for step, large, share in zip(*(one["values"] for one in inside.values()), strict=True):
        assert share == step / large
    assert "images/s a core" in output


@pytest.mark.usefixtures("compiled")
def test_all_kernels_side_by_side(measured: Any) -> None:
    _, found = measured("kernels", *SMALL, "--micro-batch", "2")
    installed = [name for name in sets.CHOICES[1:] if not sets.why_missing(name)]
    assert all(list(layer["ms"]) == installed for layer in found["layers"])
    assert len(installed) > 1


@pytest.mark.usefixtures("compiled")
def test_bfloat16_beside_the_other_kernels(
    measured: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sets.load(sets.BFLOAT16)
    capsys.readouterr()  # it says that it compiles
    options = ("--micro-batch", "2", "--precision", "bfloat16", "--kernels", "compiled")
    output, found = measured("kernels", *SMALL, *options)
    assert all(list(layer["ms"]) == ["bfloat16", "reference"] for layer in found["layers"])
    assert "peak of bfloat16, products in the cache: " in output
    errors = [layer["errors"]["bfloat16"]["y"] for layer in found["layers"] if layer["errors"]]
    assert 2.0**-12 < max(errors) < 2.0**-6
    output, found = measured("step", *SMALL, *options, "--ranks", "1")
    (ours,) = found["contenders"].values()
    assert 0 < ours["share_of_tile_peak"] < 1
    assert f"GFLOP/s, of which {next(iter(found['contenders']))} makes " in output


@pytest.mark.parametrize("option", ["--conv", "--kernels"])
def test_kernels_of_the_direct_convolution(option: str, measured: Any) -> None:
    _, found = measured("kernels", *SMALL, "--micro-batch", "2", option, "reference")
    assert all(list(layer["ms"]) == ["reference"] for layer in found["layers"])
    assert found["ms_an_image"]["as trained"] == found["ms_an_image"]["im2col alone"]


def test_errors_are_those_of_single_precision() -> None:
    both: dict[str, Kernels] = dict(numpy=numpy_set, reference=reference)
    for shape, weight in ((4, 4, 16), (3, 3, 16, 16)), ((16,), (16, 4)):
        found = errors(shape, weight, both)
        for kernel in found.values():
            assert set(kernel) == {"y", "dx", "dw"}
            assert all(1e-8 < error < 1e-4 for error in kernel.values())
        assert (found["numpy"] == found["reference"]) == (len(shape) == 1)


def test_step(measured: Any) -> None:
    options = ("--ranks", "1,2", "--shards", "3", "--micro-batch", "2")
    output, found = measured("step", *QUICK, *options)
    assert list(found["contenders"]) == ["dist_vgg, 1 rank", "dist_vgg, 2 ranks"]
    for entry in found["contenders"].values():
        assert len(entry["images_per_s"]["values"]) == 2
        assert entry["seconds_to_start"]["low"] > 0
        assert all(0 < s["median"] < 1 for s in entry["memory_gib"])
        shares = dict(entry["shares"])
        both = shares.pop("exchange and update")
        assert both == pytest.approx(shares["exchange"] + shares["update"], abs=0.1)
        assert 0.5 < sum(shares.values()) < 1.5  # medians of two noisy rounds
        assert all(f"\n{part} " in output for part in shares)
    assert found["ratios"] == []
    assert found["flops_of_an_image"] == sum(network_flops(vgg16(width=0.05)))


@pytest.fixture
def others(stub: Any) -> Any:
    """A Python that stands for those of the others: its speed is the batch size in ms."""

    def make(instructions: str = "") -> str:
        parameters = vgg16(width=0.05).parameter_count
        path: str = stub(
            "if sys.argv[1] == '-c': print('9.9-its-build'); sys.exit()\n"
            f"if 'bfloat16' in sys.argv: print('{{\"instructions\": \"{instructions}\"}}')\n"
            "if 'bfloat16' in sys.argv: sys.exit()\n"
            "batch = float(sys.argv[sys.argv.index('--batch') + 1])\n"
            "factor = 2 if '--ranks' in sys.argv else 3 if '--bfloat16' in sys.argv else 1\n"
            "memory = ', \"memory\": [1, 2]' if 'train' in sys.argv else ''\n"
            f'print(\'{{"images_per_s": %g, "parameters": {parameters}, "first_step": %f%s}}\'\n'
            "      % (batch / 1e3 * factor, time.time(), memory))"
        )
        return path

    return make


@pytest.mark.parametrize("instructions", ["AMX", ""])
def test_step_against_torch(
    instructions: str, measured: Any, others: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_vgg.bench.contenders.cores", lambda: 2)
    torch = ("--against", "torch", "--torch-python", others(instructions))
    options = ("--micro-batch", "2", *torch, "--torch-batch", "4,8", "--ddp-batch", "2,4")
    output, found = measured("step", *QUICK, *options)
    fast = [f"torch bfloat16, 2 threads, batch {batch}" for batch in (4, 8) if instructions]
    assert list(found["contenders"]) == [
        "dist_vgg, 2 ranks",
        "torch, 2 threads, batch 4",
        "torch, 2 threads, batch 8",
        "torch DDP, 2 ranks, batch 2 a rank",
        "torch DDP, 2 ranks, batch 4 a rank",
        *fast,
    ]
    rates = {name: c["images_per_s"]["median"] for name, c in found["contenders"].items()}
    theirs = [(2, 0.008), (4, 0.008), *[(6, 0.024)] * bool(fast)]
    for ratio, (best, rate) in zip(found["ratios"], theirs, strict=True):
        assert ratio["other"] == list(rates)[best]
        assert ratio["ratio"] == rates["dist_vgg, 2 ranks"] / rate
    assert "PyTorch 9.9\n" in output
    assert found["bfloat16"] == instructions
    assert f"torch bfloat16: {'by AMX' if instructions else 'left out: '}" in output


def test_torch_itself(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed; it only serves to compare")
    script = [sys.executable, str(processes.PACKAGE / "against_torch.py")]
    small = ["--batch", "2", "--width", "0.05", "--seconds", "0.01"]
    for options in (["train"], ["train", "--ranks", "2"], ["train", "--bfloat16"], ["infer"]):
        found = processes.result_of("torch", [*script, *options, *small])
        assert found["parameters"] == vgg16(width=0.05).parameter_count
        assert found["images_per_s"] > 0
    found = processes.result_of("torch", [*script, "bfloat16"])
    assert found["instructions"] in ("AMX", "AVX-512", "")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtimes_themselves(runtime: str) -> None:
    for module in ("onnx", runtime):
        pytest.importorskip(
            module, reason="the runtimes are not installed; they only serve to compare"
        )
    script = [sys.executable, str(processes.PACKAGE / "against_runtimes.py"), runtime]
    small = ["--batch", "2", "--width", "0.05", "--seconds", "0.01"]
    found = processes.result_of(runtime, [*script, *small])
    assert found["parameters"] == vgg16(width=0.05).parameter_count
    assert found["images_per_s"] > 0


def test_evaluation(measured: Any) -> None:
    output, found = measured(
        "evaluation", *QUICK, "--repeat", "1", "--ranks", "1,2", "--images", "35"
    )
    assert list(found["contenders"]) == ["dist_vgg, 1 rank", "dist_vgg, 2 ranks"]
    assert found["flops_of_an_image"] == network_flops(vgg16(width=0.05))[0]
    assert "GiB" not in output.split("images/s")[1]  # a column without numbers is not shown


def test_evaluation_against_all(
    measured: Any, others: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_vgg.bench.contenders.cores", lambda: 2)
    names = "openvino,torch,onnxruntime"
    options = ("--repeat", "1", "--images", "2", "--torch-batch", "2,4", "--against", names)
    output, found = measured("evaluation", *QUICK, *options, "--torch-python", others())
    best = [f"{name}, 2 threads, batch 4" for name in names.split(",")]
    assert [ratio["other"] for ratio in found["ratios"]] == best
    assert len(found["contenders"]) == 7
    assert "PyTorch 9.9, ONNX Runtime 9.9, OpenVINO 9.9\n" in output


def test_exchange(measured: Any) -> None:
    options = ("--ranks", "2,3", "--sizes", "1e3,70001", "--repeat", "2", "--stream", "1e5")
    _, found = measured("exchange", *options)
    places = [(e["ranks"], e["numbers"]) for e in found["exchanges"] if e["route"] == "flat"]
    assert places == [(2, 1000), (2, 70001), (3, 1000), (3, 70001)]
    assert {e["route"] for e in found["exchanges"]} >= {"flat", "mpi"}
    for entry in found["exchanges"]:
        assert len(entry["ms"]["values"]) == 2
        assert entry["bytes_a_rank"] * entry["ranks"] == pytest.approx(
            2 * (entry["ranks"] - 1) * 4 * entry["numbers"]
        )


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_audit(measured: Any, memory: set[Path]) -> None:
    options = ("--ranks", "3", "--shards", "4", "--micro-batch", "2", "--width", "0.05")
    output, found = measured("audit", *options, "--repeat", "3")
    assert [set(turn) for turn in found["seconds"]] == [{"both", "neither"}] * 3
    assert len(found["step"]) == 2
    assert found["kept"]
    assert found["share"] == pytest.approx(found["more"]["median"] / (1e3 * sum(found["step"]) / 2))
    assert "of a step" in output
    assert any("bench" in path.name for path in memory)
    assert not [path for path in memory if path.exists()]


def test_memory(measured: Any) -> None:
    options = ("--ranks", "2", "--shards", "3", "--micro-batch", "2", "--width", "0.05")
    output, found = measured("memory", *options)
    held = list(found["stages"].values())
    assert held[0]["rank"] > 10 << 20  # Python and NumPy
    for before, after in pairwise(held):
        assert after["all"] > before["all"] - (1 << 20)
    assert held[-1]["rank"] <= found["reported"][0] * 1.01
    assert "a step, at its peak" in output


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "the following arguments are required: BENCHMARK"),
        (("stpe",), "invalid choice: 'stpe'"),
        (("step", "--rankss", "2"), "unknown option --rankss"),
        (("step", "--ranks", "0"), "0 is no whole number from 1"),
        (("step", "--ranks", "two"), "two is no whole number from 1"),
        (("step", "--ranks", "9"), "--ranks 9 is more than --shards 8"),
        (("step", "--width", "-1"), "--width -1.0 is out of range"),
        (("step", "--seconds", "nan"), "nan is no number of seconds"),
        (("step", "--route", "fast"), "invalid choice: 'fast'"),
        (("kernels", "--json", "no/folder/x.json"), "can't write --json no/folder/x.json"),
        (("kernels", "--plot", "x.gif"), "--plot x.gif: name a .png, .pdf or .svg file"),
        (("evaluation", "--images", "1"), "--images 1 is fewer than --ranks 2"),
        (("exchange", "--ranks", "1,2"), "an exchange needs at least 2"),
        (("exchange", "--sizes", "1.5"), "1.5 is no whole number"),
        (("memory", "--ranks", "9"), "--ranks 9 is more than --shards 8"),
        (("step", "--against", "torch", "--torch-python", "/no/python"), "--torch-python"),
        (("step", "--network", "vgg11", "--against", "torch"), "--against compares vgg16"),
        (("step", "--against", "openvino"), "'openvino' is not one of: torch"),
    ],
)
def test_mistakes_are_one_line(
    argv: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bench(argv) == 2
    assert words in one_error(capsys)


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that the benchmark wrote to standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dist_vgg.bench: error: ")
    return line


def test_a_mistake_in_the_ranks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = processes.worker_command(2, "step", shards=2, seconds=1, micro_batch=0)
    with pytest.raises(UserError, match="--micro-batch 0 is out of range"):
        processes.result_of("step", command)


def test_missing_torch_says_how_to_get_it(stub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    without = stub("sys.exit(1)")
    assert run_bench(["evaluation", "--against", "torch", "--torch-python", without]) == 2
    line = one_error(capsys)
    assert f"{without} has no PyTorch;" in line
    assert "pip install torch)" in line
    assert "--torch-python" in line
    both = ["--against", "openvino,torch", "--torch-python", without]
    assert run_bench(["evaluation", *both]) == 2
    line = one_error(capsys)
    assert f"{without} has no OpenVINO or no onnx;" in line
    assert "pip install openvino onnx torch)" in line


def test_a_failing_contender_is_named_with_its_last_words(
    stub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = stub(
        "if sys.argv[1] == '-c': print('9.9'); sys.exit()\n"
        "[print(f'line {i}', file=sys.stderr) for i in range(99)]; sys.exit(3)"
    )
    options = ("--images", "2", "--against", "torch", "--torch-python", torch)
    assert run_bench(["evaluation", *QUICK, *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("dist_vgg.bench: error: torch, ")
    assert "batch 16 failed with status 3" in lines[0]
    assert lines[1:] == [f"line {i}" for i in range(99 - processes.TAIL, 99)]


def test_under_mpirun_it_says_that_it_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_RANK", "0")
    assert run_bench(["kernels"]) == 2
    assert "start it without mpirun" in one_error(capsys)


def test_missing_matplotlib_and_mpirun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    assert run_bench(["kernels", "--plot", "x.png"]) == 2
    assert "pip install matplotlib" in one_error(capsys)
    monkeypatch.setattr(mpirun.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(UserError, match=r"^no mpirun found; pip install .* MPI module$"):
        processes.worker_command(2, "step")


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it only draws")
    chart = Chart("Title", "ms")
    chart.add("one", "ours", Readings.of([1, 2, 3]))
    chart.add("one", "theirs", Readings.of([4]))
    chart.add("two", "ours", Readings.of([2]))
    draw(tmp_path / "x.png", chart, "a machine")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_each_round_begins_with_another_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(comparison, "result_of", lambda name, command: {"of": name})
    commands: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    found = comparison.in_turns(commands, 4, lambda name, result: order.append(name))
    assert "".join(order) == "abcbcacababc"
    assert all(results == [{"of": name}] * 4 for name, results in found.items())


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((25.06, 24, 26.04), "25.1 (24.0–26.0)"),
        ((1234.5,), "1,234 (1,234–1,234)"),
        ((0.01234, 0.01), "0.0112 (0.0100–0.0123)"),
        ((0,), "0.00 (0.00–0.00)"),
    ],
)
def test_readings(values: tuple[float, ...], shown: str) -> None:
    assert str(Readings.of(values)) == shown


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What the benchmark starts inherits this, and can be told by it.
    mark = f"BENCH_TEST={tmp_path}"
    monkeypatch.setenv(*mark.split("="))
    process = start(1, "-m", "dist_vgg.bench", "step", *SMALL, "--seconds", "600")
    deadline = time.monotonic() + 30
    while len(workers(mark)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, number)
    status, _, errors = finish(process, timeout=20)
    assert status == 130, errors
    assert errors == "dist_vgg.bench: interrupted\n"
    deadline = time.monotonic() + 5
    while workers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers(mark)


def workers(mark: str) -> list[str]:
    """Ranks of step's that carry a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in environment.split(b"\0") and b"dist_vgg.bench.worker" in words:
            found.append(f"{folder.name} {words!r}")
    return found
