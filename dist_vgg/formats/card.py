"""A model card: what a person and a hub have to know of published weights, in Markdown.

Its front matter is YAML with the keys that Hugging Face's cards have. Each value is JSON, which is
YAML too.
"""

import json
from typing import Any

from dist_vgg.formats.evidence import Measured, Training
from dist_vgg.formats.metadata import facts
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import BLOCKS
from dist_vgg.state.weights import Weights

# What the hub calls the data sets that data_prep downloads.
HUB = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
}
PREPARED = {
    "digit": "a light digit on black, scaled and centred as MNIST's are",
    "crop": "a picture scaled so that it fills the square",
    "pad": "a picture scaled so that it lies within the square",
    "stretch": "a picture stretched to the square",
}
MOST_NAMES = 20  # of classes
# For every network of the family, at every width and size of images.
TORCHVISION = """\
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import {name}

arrays = load_file("model.safetensors")
model = {name}(num_classes={classes}, init_weights=False)
model.avgpool = nn.Identity()  # {size} pixels leave maps of {side}x{side}, and not 7x7
for key, array in arrays.items():  # layers of the sizes that this network has
    part, place, kind = key.split(".")
    if kind == "weight":
        to, of = array.shape[:2]
        new = nn.Conv2d(of, to, 3, padding=1) if array.ndim == 4 else nn.Linear(of, to)
        getattr(model, part)[int(place)] = new
model.load_state_dict(arrays)
model.eval()

pixels = torch.zeros(1, {channels}, {size}, {size})  # from 0 to 255
mean = torch.tensor({mean}).view(-1, 1, 1)
std = torch.tensor({std}).view(-1, 1, 1)
logits = model((pixels - mean) / std)
"""


def model_card(
    name: str,
    weights: Weights,
    net: Sequential,
    license_id: str,
    measured: Measured | None,
    training: Training | None,
) -> str:
    """The text of a README.md for weights that lie beside it as model.safetensors."""
    parts = [
        front_matter(name, weights, license_id, measured),
        f"# {name}\n",
        introduction(weights, net),
        named_classes(weights),
        accuracy(measured, weights) if measured else "",
        usage(weights),
        history(training, weights) if training else "",
    ]
    return "\n".join(part for part in parts if part)


def front_matter(name: str, weights: Weights, license_id: str, measured: Measured | None) -> str:
    """What the hub reads, a key a line."""
    network = facts(weights)["network"]["name"]
    fields: dict[str, Any] = dict(
        license=license_id,
        library_name="dist_vgg",
        pipeline_tag="image-classification",
        tags=[network, "vgg", "safetensors"],
    )
    if weights.source in HUB:
        fields["datasets"] = [HUB[weights.source]]
    if measured:
        fields["metrics"] = ["accuracy"]
        fields["model-index"] = [{"name": name, "results": [as_result(measured, weights)]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def as_result(measured: Measured, weights: Weights) -> dict[str, Any]:
    """A result of the hub's model index."""
    known = measured.dataset == weights.dataset
    source = weights.source if known else f"data set {measured.dataset[:16]}"
    return dict(
        task=dict(type="image-classification"),
        dataset=dict(name=source, type=HUB.get(source, source), split=measured.images),
        metrics=[
            dict(type="accuracy", value=measured.accuracy),
            dict(type="loss", value=measured.loss),
        ],
    )


def introduction(weights: Weights, net: Sequential) -> str:
    """What the network is, and what it takes."""
    network, size = facts(weights)["network"], net.input_shape[0]
    rows = [
        ("input", f"{size}x{size} pixels, channels: {network['channels']}, from 0 to 255; "
         f"{PREPARED[weights.preparation]}"),
        ("mean and deviation of pixels", f"{json.dumps(weights.mean)}, {json.dumps(weights.std)}"),
        ("parameters", f"{net.parameter_count:,}, in {weights.precision}"),
        ("SHA-256 of the parameters", f"`{weights.sha256}`"),
        ("rounded from the float32 parameters", f"`{weights.made_from}`"),
        ("SHA-256 of the data set", f"`{weights.dataset}`"),
    ]  # fmt: skip
    if not weights.made_from:
        del rows[4]
    title = (
        f"{network['name'].upper()} of width {network['width']:g}, trained on {weights.source} by "
        f"dist_vgg in {weights.step:,} steps."
    )
    return "\n".join(
        [title, "", "| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows), ""]
    )


def named_classes(weights: Weights) -> str:
    """The names of the classes, in the order of the logits."""
    count = weights.network["classes"]
    if not weights.class_names:
        return f"The classes are the numbers from 0 to {count - 1}.\n"
    first = json.dumps(weights.class_names[:MOST_NAMES], ensure_ascii=False)
    more = "; config.json has all" if count > MOST_NAMES else ""
    return f"The names of the {count} classes{more}:\n\n    {first}\n"


def accuracy(measured: Measured, weights: Weights) -> str:
    """How well the network does."""
    which = "" if measured.dataset == weights.dataset else f" of the data set {measured.dataset}"
    return (
        "## Accuracy\n\n"
        f"{measured.accuracy:.2%} of the {measured.count:,} {measured.images} images{which}, at a "
        f"loss of {measured.loss:.4f}.\n"
    )


def usage(weights: Weights) -> str:
    """How to load the weights: into torchvision's network, and by this program."""
    return (
        f"## Use\n\nIn torchvision:\n\n```python\n{torchvision_lines(weights)}```\n\n"
        "With dist_vgg:\n\n```sh\npython -m dist_vgg.predict model.safetensors PICTURE\n```\n"
    )


def torchvision_lines(weights: Weights) -> str:
    """The Python that loads model.safetensors into torchvision's network and computes logits."""
    network = facts(weights)["network"]
    side = network["size"] // 2 ** len(BLOCKS[network["name"]])
    normal = dict(mean=json.dumps(weights.mean), std=json.dumps(weights.std))
    return TORCHVISION.format(**network, side=side, **normal)


def history(training: Training, weights: Weights) -> str:
    """How the weights came about."""
    commit = f"The source was at the commit {training.commit}. " if training.commit else ""
    end = f"The run ended with the parameters `{training.sha256}`"
    if training.sha256 not in (weights.sha256, weights.made_from):
        end += "; these are others of it: a moving average, or the best on held-out images"
    return (
        f"## Training\n\n```sh\n{training.command}\n```\n\n{commit}{end}. The same command on the "
        "same data gives the same parameters at any number of ranks; with NumPy's kernels, on "
        "processors for which its BLAS has the same ones.\n"
    )
