"""The benchmarks against others: PyTorch, ONNX Runtime and OpenVINO, or what stands for them."""

import sys
from typing import Any

import pytest
from benching import QUICK, one_error, run_bench

from dist_vgg.bench import processes
from dist_vgg.bench.against import RUNTIMES
from dist_vgg.network.vgg import vgg16


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
