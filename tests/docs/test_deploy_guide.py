"""The lines in which the guide loads a network into torchvision's VGG16."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from launcher import ROOT

from dist_vgg.data.samples import normalise
from dist_vgg.formats.torchvision import to_torchvision
from dist_vgg.network.vgg import initialise, vgg16

GUIDE = ROOT / "docs" / "guides" / "deploy.md"
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def torchvisions_vgg16(torch: ModuleType) -> Any:
    """A network with torchvision's modules and forward pass, for 3x224x224 and 1,000 classes."""
    nn: Any = torch.nn

    class VGG(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            features, channels = [], 3
            for filters, count in BLOCKS:
                for _ in range(count):
                    features += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
                    channels = filters
                features.append(nn.MaxPool2d(2))
            self.features, self.avgpool = nn.Sequential(*features), nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()),
                *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
                nn.Linear(4096, 1000),
            )

        def forward(self, x: Any) -> Any:
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    with torch.device("meta"):  # without memory, so that a parameter left as it was is an error
        return VGG()


@pytest.mark.parametrize(("size", "channels", "classes"), [(64, 1, 10), (96, 3, 12)])
def test_the_lines_for_torchvision(
    size: int, channels: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; it only serves to compare"
    )
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    net = vgg16(size=size, channels=channels, classes=classes, width=0.05, dropout=0)
    params = np.zeros(net.parameter_count, np.float32)
    initialise(net, params, seed=0)
    net.bind(params, params)
    mean, std = (33.3, 40.5, 50.1)[:channels], (78.5, 60.2, 70.9)[:channels]
    (tmp_path / "NAME").mkdir()
    told = dict(mean=json.dumps(mean), std=json.dumps(std))
    file = tmp_path / "NAME" / "model.safetensors"
    safetensors.save_file(to_torchvision(net, params), file, told)
    shape = (3, size, size, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    vision = SimpleNamespace(models=SimpleNamespace(vgg16=lambda: torchvisions_vgg16(torch)))
    monkeypatch.setitem(sys.modules, "torchvision", vision)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(
        r"^```python\n(import json, torch.*?)^```", GUIDE.read_text(), re.M | re.S
    )
    names: dict[str, Any] = {"pixels": torch.tensor(pixels.transpose(0, 3, 1, 2)).float()}
    with torch.inference_mode():
        exec(lines, names)
    ours = net.forward(normalise(pixels, mean, std))
    np.testing.assert_allclose(names["logits"].numpy(), ours, rtol=1e-4, atol=1e-5)
