"""The parameters under torchvision's names: there and back, and PyTorch computes what we do."""

from pathlib import Path
from typing import Any

import pytest
from trained import COLOURS, DIGITS, NETWORKS, SHORT, close, logits, pixels, ready

from dist_vgg.formats.safetensors import write_safetensors
from dist_vgg.formats.torchvision import flat_vector, parameters, shapes, to_torchvision
from dist_vgg.network.vgg import vgg

# torchvision.models.vgg11 and vgg16: the places of convolutions (F) and poolings (M).
PLANS = {"vgg11": "FMFMFFMFFMFFM", "vgg16": "FFMFFMFFFMFFFMFFFM"}


@pytest.mark.parametrize("network", NETWORKS)
def test_there_and_back(network: dict[str, Any]) -> None:
    weights, net = ready(network)
    arrays = to_torchvision(net, weights.params)
    assert {name: array.shape for name, array in arrays.items()} == shapes(net)
    assert all(array.flags.c_contiguous for array in arrays.values())
    assert flat_vector(net, arrays.__getitem__).tobytes() == weights.params.tobytes()


def test_names_and_shapes_of_the_full_network() -> None:
    found = shapes(vgg("vgg16"))
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    names = [f"features.{k}" for k in convolutions] + [f"classifier.{k}" for k in (0, 3, 6)]
    assert list(found) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    assert found["features.28.weight"] == (512, 512, 3, 3)
    assert found["classifier.0.weight"] == (4096, 2048)
    assert found["classifier.6.bias"] == (10,)


def test_the_first_linear_layer_takes_channels_first() -> None:
    weights, net = ready(SHORT)
    first = next(each for each in parameters(net) if each.name == "classifier.0.weight")
    height, width, channels, _ = first.ours
    assert height == width == 2 and channels > 2
    theirs, ours = to_torchvision(net, weights.params)[first.name], first.find(weights.params)
    for y, x, c, out in ((0, 1, 2, 3), (1, 0, channels - 1, 0)):
        assert theirs[out, (c * height + y) * width + x] == ours[y, x, c, out]


@pytest.mark.parametrize("network", [DIGITS, COLOURS, SHORT])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_pytorch_computes_the_same(
    network: dict[str, Any], precision: str, tmp_path: Path, quick_disk: None
) -> None:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; it only serves to compare"
    )
    from safetensors.torch import load_file

    from dist_vgg.formats.trained import load_network, round_weights

    weights, net = ready(network)
    weights = round_weights(weights, net, precision)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, weights, net)
    arrays = load_file(path)
    model = torchvision_like(torch, PLANS[network["name"]], arrays)
    model.load_state_dict(arrays)  # strict: all names, and no other
    model.eval()
    images = pixels(network)
    x = torch.tensor(images).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (weights.mean, weights.std))
    with torch.no_grad():
        found = model((x - mean) / std).numpy()
    close(found, logits(load_network(weights, "numpy"), weights, images))


def torchvision_like(torch: Any, plan: str, arrays: dict[str, Any]) -> Any:
    """A network of torchvision's structure with the sizes of the arrays; it isn't installed."""
    nn = torch.nn
    features, classifier = nn.Sequential(), nn.Sequential()
    for kind in plan:
        if kind == "M":
            features.append(nn.MaxPool2d(2, 2))
            continue
        filters, channels = arrays[f"features.{len(features)}.weight"].shape[:2]
        features.extend([nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()])
    for place in (0, 3, 6):
        outputs, inputs = arrays[f"classifier.{place}.weight"].shape
        linear = nn.Linear(inputs, outputs)
        classifier.extend([linear] if place == 6 else [linear, nn.ReLU(), nn.Dropout()])
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("flatten", nn.Flatten())
    model.add_module("classifier", classifier)
    return model
