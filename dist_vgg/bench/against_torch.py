"""The same VGG16 in PyTorch, to compare with: training in one process or with DDP, and inference.

This script needs PyTorch and nothing else, so any Python that has torch can run it by its path.
`python -m dist_vgg.bench` starts it; started by hand, it prints one line of JSON:

python dist_vgg/bench/against_torch.py train --batch 32 --threads 8
python dist_vgg/bench/against_torch.py train --batch 32 --threads 8 --bfloat16
python dist_vgg/bench/against_torch.py train --batch 32 --ranks 8       DDP over gloo, a thread each
python dist_vgg/bench/against_torch.py infer --batch 64 --threads 8

PyTorch gets what suits it best: channels last, fused optimizers, gradients as views of DDP's
buckets, and a batch that is ready in memory. It neither clips gradients nor decays weights.
"""

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Python puts a script's own folder first on the path, and there modules have common names.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = (4096, 4096)
SIZE, CLASSES = 64, 10
WARM_UP = 2  # steps: DDP reorders its buckets after the first one


def network(width: float) -> nn.Module:
    """VGG16 as `dist_vgg.network.vgg.vgg16` has it."""

    def scaled(units: int) -> int:
        return max(1, round(units * width))

    layers: list[nn.Module] = []
    inputs = 1
    for filters in BLOCKS:
        for outputs in map(scaled, filters):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    inputs *= (SIZE // 2 ** len(BLOCKS)) ** 2
    for outputs in map(scaled, HIDDEN):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        inputs = outputs
    layers.append(nn.Linear(inputs, CLASSES))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of that name in `dist_vgg`; fused, where this PyTorch can fuse it."""
    kinds: dict[str, tuple[Any, dict[str, float]]] = {
        "sgd": (torch.optim.SGD, dict(lr=0.01, momentum=0.9)),
        "adam": (torch.optim.Adam, dict(lr=1e-4)),
        "adagrad": (torch.optim.Adagrad, dict(lr=1e-3)),
    }
    kind, options = kinds[name]
    try:
        return kind(model.parameters(), fused=True, **options)
    except (RuntimeError, TypeError):
        return kind(model.parameters(), **options)


def train(rank: int, options: argparse.Namespace, rendezvous: str) -> None:
    """Measure training steps on this rank; rank 0 prints the result."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(rank)
    if options.ranks > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=options.ranks
        )
    model = whole = network(options.width)
    if options.ranks > 1:
        model = nn.parallel.DistributedDataParallel(whole, gradient_as_bucket_view=True)
    update = optimizer(options.optimizer, whole)
    x, labels = batch(options.batch)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bfloat16):
            loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        update.step()

    result = measure(step, options.batch * options.ranks, options.seconds)
    peak = torch.tensor([float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)])
    largest, total = peak.clone(), peak.clone()
    if options.ranks > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        dist.all_reduce(total)
        dist.destroy_process_group()
    unit = 1 if sys.platform == "darwin" else 1024
    result["memory"] = [float(largest) * unit / 2**30, float(total) * unit / 2**30]
    result["parameters"] = sum(p.numel() for p in whole.parameters())
    if rank == 0:
        print(json.dumps(result), flush=True)


def infer(options: argparse.Namespace) -> None:
    """Measure forward passes in one process."""
    torch.set_num_threads(options.threads)
    model = network(options.width).eval()
    x, _ = batch(options.batch)
    with torch.inference_mode():
        result = measure(lambda: model(x), options.batch, options.seconds)
    result["parameters"] = sum(p.numel() for p in model.parameters())
    print(json.dumps(result), flush=True)


def bfloat16_instructions() -> str:
    """What the processor multiplies bfloat16 with, so far as PyTorch tells; "" for nothing."""
    asks = {"AMX": "_is_amx_tile_supported", "AVX-512": "_is_avx512_bf16_supported"}
    for name, ask in asks.items():
        with suppress(AttributeError, RuntimeError):  # no PyTorch promises these functions
            if getattr(torch.cpu, ask)():
                return name
    return ""


def batch(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    x = torch.randn(images, 1, SIZE, SIZE).to(memory_format=torch.channels_last)
    return x, torch.randint(CLASSES, (images,))


def measure(step: Callable[[], object], images: int, seconds: float) -> dict[str, Any]:
    """Images a second after a warm-up, over at least two steps and about so many seconds."""
    barrier()
    first_step = time.time()
    for _ in range(WARM_UP):
        start = time.perf_counter()
        step()
    count = torch.tensor([max(2, math.ceil(seconds / (time.perf_counter() - start)))])
    if dist.is_initialized():
        dist.broadcast(count, 0)
    barrier()
    start = time.perf_counter()
    for _ in range(int(count)):
        step()
    barrier()
    elapsed = time.perf_counter() - start
    return dict(images_per_s=images * int(count) / elapsed, first_step=first_step)


def barrier() -> None:
    """Wait for the other ranks, where there are any."""
    if dist.is_initialized():
        dist.barrier()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="VGG16 in PyTorch, measured.")
    parser.add_argument("what", choices=("train", "infer", "bfloat16"))
    parser.add_argument("--batch", type=int, default=32, help="images of each rank in a step")
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--ranks", type=int, default=1, help="more than one: DDP over gloo")
    parser.add_argument("--optimizer", choices=("sgd", "adam", "adagrad"), default="sgd")
    parser.add_argument("--bfloat16", action="store_true", help="autocast in training")
    parser.add_argument("--width", type=float, default=1.0, help="factor on hidden widths")
    parser.add_argument("--seconds", type=float, default=2.0, help="to measure, about")
    options = parser.parse_args()
    if options.what == "bfloat16":
        print(json.dumps(dict(instructions=bfloat16_instructions())))
    elif options.what == "infer":
        infer(options)
    elif options.ranks == 1:
        train(0, options, "")
    else:
        if sys.platform == "linux":
            # Without this gloo looks up the host's name, which fails on some machines.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        with tempfile.TemporaryDirectory() as folder:
            arguments = (options, str(Path(folder) / "rendezvous"))
            torch.multiprocessing.spawn(train, arguments, nprocs=options.ranks)


if __name__ == "__main__":
    main()
