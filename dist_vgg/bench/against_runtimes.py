"""The same VGG16 in ONNX Runtime and in OpenVINO, to compare evaluation with.

This script needs onnx, and onnxruntime or openvino, so any Python that has them can run it by its
path. `python -m dist_vgg.bench` starts it; started by hand, it prints one line of JSON:

python dist_vgg/bench/against_runtimes.py onnxruntime --batch 32 --threads 2
python dist_vgg/bench/against_runtimes.py openvino --batch 32 --threads 2

Each runtime gets what suits it best: a network of one batch size that it may rearrange, and a batch
that is ready in memory. OpenVINO is measured with both of its hints, of which the faster counts.
Both compute in float32: left to itself, OpenVINO would take bfloat16 where the processor has it.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Python puts a script's own folder first on the path, and there modules have common names.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = (4096, 4096)
SIZE, CLASSES = 64, 10
OPSET, IR_VERSION = 17, 8  # that runtimes of several years read
WARM_UP = 2  # passes

Pass = Callable[[], np.ndarray]  # one forward pass; returns the last logits


class Network:
    """VGG16 as `dist_vgg.network.vgg.vgg16` has it, as ONNX nodes with random weights."""

    def __init__(self, width: float) -> None:
        def scaled(units: int) -> int:
            return max(1, round(units * width))

        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.parameters = 0
        self._rng = np.random.default_rng(0)
        inputs = 1
        for filters in BLOCKS:
            for outputs in map(scaled, filters):
                self._affine("Conv", (outputs, inputs, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
                self._add("Relu")
                inputs = outputs
            self._add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        self._add("Flatten")
        inputs *= (SIZE // 2 ** len(BLOCKS)) ** 2
        for outputs in map(scaled, HIDDEN):
            self._affine("Gemm", (inputs, outputs))
            self._add("Relu")
            inputs = outputs
        self._affine("Gemm", (inputs, CLASSES))

    def _affine(self, kind: str, shape: tuple[int, ...], **attributes: Any) -> None:
        """Add a layer with a weight and a bias; Conv's weights are (F,C,kh,kw), Gemm's (C,F)."""
        conv = kind == "Conv"
        fan_in, outputs = (math.prod(shape[1:]), shape[0]) if conv else shape
        weight = self._rng.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        names = [f"{part}{len(self.nodes)}" for part in ("weight", "bias")]
        for name, array in zip(names, (weight, np.zeros(outputs, np.float32)), strict=True):
            self.weights.append(numpy_helper.from_array(array, name))
            self.parameters += array.size
        self._add(kind, *names, **attributes)

    def _add(self, kind: str, *weights: str, **attributes: Any) -> None:
        """Add a node that takes the last one's output."""
        number = len(self.nodes)
        names = [f"x{number}", *weights], [f"x{number + 1}"]
        self.nodes.append(helper.make_node(kind, *names, **attributes))

    def model(self, batch: int) -> bytes:
        """The ONNX model for so many images at a time, (N,1,64,64) to (N,10)."""
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (
                ("x0", (batch, 1, SIZE, SIZE)),
                (f"x{len(self.nodes)}", (batch, CLASSES)),
            )
        ]
        graph = helper.make_graph(self.nodes, "vgg16", ends[:1], ends[1:], self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        content: bytes = model.SerializeToString()
        return content


def onnxruntime_pass(model: bytes, x: np.ndarray, threads: int) -> Pass:
    """A forward pass in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x0": x})[0]


def openvino_pass(model: bytes, x: np.ndarray, threads: int, hint: str) -> tuple[Pass, int]:
    """Forward passes in OpenVINO, and how many of them run at once: as many as it wants to."""
    import openvino

    settings = dict(
        PERFORMANCE_HINT=hint, INFERENCE_NUM_THREADS=threads, INFERENCE_PRECISION_HINT="f32"
    )
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    requests = [compiled.create_infer_request() for _ in range(at_once)]

    def run() -> np.ndarray:
        for request in requests:
            request.start_async({0: x}, share_inputs=True)
        for request in requests:
            request.wait()
        logits: np.ndarray = requests[-1].get_output_tensor(0).data
        return logits

    return run, at_once


def measure(run: Pass, images: int, seconds: float) -> dict[str, Any]:
    """Images a second after a warm-up, over at least two passes and about so many seconds."""
    first_step = time.time()
    for _ in range(WARM_UP):
        start = time.perf_counter()
        logits = run()
    assert logits.shape[1] == CLASSES, f"{logits.shape} is no shape of logits"
    count = max(2, math.ceil(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        run()
    elapsed = time.perf_counter() - start
    return dict(images_per_s=images * count / elapsed, first_step=first_step)


def main() -> None:
    """Measure forward passes and print the result."""
    parser = argparse.ArgumentParser(description="VGG16 in ONNX Runtime or OpenVINO, measured.")
    parser.add_argument("runtime", choices=("onnxruntime", "openvino"))
    parser.add_argument("--batch", type=int, default=32, help="images at a time")
    parser.add_argument("--threads", type=int, default=1, help="to compute with")
    parser.add_argument("--width", type=float, default=1.0, help="factor on hidden widths")
    parser.add_argument("--seconds", type=float, default=2.0, help="to measure, about")
    options = parser.parse_args()
    network = Network(options.width)
    model, batch, threads = network.model(options.batch), options.batch, options.threads
    x = np.random.default_rng(1).standard_normal((batch, 1, SIZE, SIZE), np.float32)
    if options.runtime == "onnxruntime":
        result = measure(onnxruntime_pass(model, x, threads), batch, options.seconds)
    else:
        results = []
        for hint in ("LATENCY", "THROUGHPUT"):
            run, at_once = openvino_pass(model, x, threads, hint)
            found = measure(run, at_once * batch, options.seconds)
            results.append({**found, "hint": hint, "at_once": at_once})
        result = max(results, key=lambda one: one["images_per_s"])
        result["first_step"] = results[0]["first_step"]
    print(json.dumps({**result, "parameters": network.parameters}), flush=True)


if __name__ == "__main__":
    main()
