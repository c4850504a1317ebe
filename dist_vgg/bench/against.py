"""What else computes VGG16, for comparison: PyTorch and two runtimes, by another Python or this."""

import argparse
import subprocess
from dataclasses import dataclass

from dist_vgg.base.errors import UserError
from dist_vgg.bench.processes import PACKAGE, result_of
from dist_vgg.runs.config import TrainConfig

TORCH, RUNTIMES = "torch", ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Other:
    """A package to compare with: what it is called, the packages it needs, and our script."""

    title: str
    packages: tuple[str, ...]
    script: str


OTHERS = {
    TORCH: Other("PyTorch", ("torch",), "against_torch.py"),
    "onnxruntime": Other("ONNX Runtime", ("onnxruntime", "onnx"), "against_runtimes.py"),
    "openvino": Other("OpenVINO", ("openvino", "onnx"), "against_runtimes.py"),
}


def script(options: argparse.Namespace, name: str, *arguments: object) -> list[str]:
    """The command that measures another one's VGG16."""
    common = ["--width", options.width, "--seconds", options.seconds]
    return list(
        map(str, [options.torch_python, PACKAGE / OTHERS[name].script, *arguments, *common])
    )


def versions(options: argparse.Namespace) -> dict[str, str]:
    """The version of each that the options compare with; UserError where one can't take part."""
    names, usual = getattr(options, "against", ()), TrainConfig.network
    if names and getattr(options, "network", usual) != usual:
        raise UserError(f"--against compares {usual}: leave out --network, or --against")
    return {name: _version(options, name) for name in names}


def _version(options: argparse.Namespace, name: str) -> str:
    python, other = options.torch_python, OTHERS[name]
    ask = f"import {', '.join(other.packages)}; print({name}.__version__)"
    try:
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        needed = dict.fromkeys(p for name in options.against for p in OTHERS[name].packages)
        lacking = " or no ".join((other.title, *other.packages[1:]))
        raise UserError(
            f"--against {name}: {python} has no {lacking}; "
            "install it in an environment of its own "
            f"(python -m venv torch-env && torch-env/bin/pip install {' '.join(needed)}) and name "
            "that with --torch-python torch-env/bin/python"
        ) from error
    return answer.stdout.strip().partition("-")[0]  # OpenVINO's goes on with its build


def fast_bfloat16(options: argparse.Namespace) -> str:
    """The processor's instructions for products in bfloat16, as PyTorch knows them; "" for none."""
    found = result_of("torch, asked for bfloat16", script(options, TORCH, "bfloat16"))
    return str(found["instructions"])
