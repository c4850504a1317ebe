"""The model card and what it is made of: scores, the training's command, lines for torchvision."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from launcher import ROOT
from test_torchvision import PLANS, torchvision_like
from trained import COLOURS, DIGITS, NETWORKS, close, logits, pixels, ready, some_weights

from dist_vgg.base.errors import UserError
from dist_vgg.formats.card import front_matter, model_card, torchvision_lines
from dist_vgg.formats.evidence import Measured, Training, command, read_measured, read_training
from dist_vgg.formats.safetensors import write_safetensors
from dist_vgg.runs.config import TrainConfig
from dist_vgg.runs.options import train_parser

WEIGHTS = some_weights(DIGITS)
RESULT = dict(
    dataset=WEIGHTS.dataset, split="test", images="test", weights=WEIGHTS.sha256, accuracy=0.75,
    loss=0.5, confusion=[[2, 1], [0, 1]],
    average=dict(weights="cd" * 32, accuracy=0.5, loss=1.5, confusion=[[1, 2], [0, 1]]),
)  # fmt: skip
MEASURED = Measured(WEIGHTS.sha256, 0.75, 0.5, 4, "test", WEIGHTS.dataset)


def card(weights: Any = WEIGHTS, measured: Any = None, training: Any = None) -> str:
    return model_card("name", weights, ready(weights.network)[1], "mit", measured, training)


def test_scores_of_evaluate(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(RESULT))
    assert read_measured(path, WEIGHTS) == MEASURED
    average = read_measured(path, replace(WEIGHTS, sha256="cd" * 32))
    assert (average.accuracy, average.loss, average.images) == (0.5, 1.5, "test")
    with pytest.raises(UserError) as raised:
        read_measured(path, replace(WEIGHTS, sha256="ef" * 32))
    assert str(raised.value) == (
        f"--metrics {path} is of the parameters {WEIGHTS.sha256[:16]}, and these are "
        "efefefefefefefef; export without --metrics, evaluate what was written, then export again"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        json.dumps({**RESULT, "accuracy": 1.5}),
        json.dumps({**RESULT, "accuracy": "a lot"}),
        json.dumps({**RESULT, "loss": float("nan")}),
        json.dumps({**RESULT, "images": "a\nb"}),
        json.dumps({**RESULT, "weights": "ab"}),
        json.dumps({**RESULT, "confusion": [[0.5]]}),
        json.dumps({**RESULT, "best": {}}),
    ],
)
def test_what_is_no_score_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_measured(path, WEIGHTS)
    words = f"--metrics {path} is not what evaluate --json writes; name a file that is"
    assert str(raised.value) == words


def test_missing_scores(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"can't read --metrics .*gone: No such file"):
        read_measured(tmp_path / "gone", WEIGHTS)


def config_of(**options: Any) -> dict[str, Any]:
    """What a run's config.json says, as far as the card asks."""
    values = {**TrainConfig().as_dict(), "data": "/home/me/images", "out": "/home/me/x", **options}
    return dict(config=values, ranks=3, git_commit="12ab", dataset=dict(sha256=WEIGHTS.dataset))


def test_the_command_has_what_the_result_needs_and_no_more() -> None:
    options = dict(width=0.125, nesterov=True, lr=0.01, init="/home/me/a b.h5", seed=3)
    found = command(config_of(**options, keep=9, audit=False))
    assert found == (
        "mpirun -n 3 python -m dist_vgg.train --data images --width 0.125 --init 'a b.h5' "
        "--lr 0.01 --nesterov --seed 3"
    )
    # Every option has a spelling that train understands and that means the same.
    options = dict(kernels="numpy", epochs=3, weight_decay=0.0, optimizer="adam", ema=0.5)
    words = command({**config_of(**options), "ranks": 1}).split()
    assert words[:3] == ["python", "-m", "dist_vgg.train"]
    parsed = TrainConfig(**vars(train_parser().parse_args(words[3:])))
    assert parsed.result_options() == TrainConfig(**options).result_options()


def test_training_is_known_where_the_folder_has_its_records(tmp_path: Path) -> None:
    assert read_training(tmp_path, WEIGHTS) is None
    (tmp_path / "config.json").write_text(json.dumps(config_of(width=0.05)))
    assert read_training(tmp_path, WEIGHTS) is None
    lines = [dict(kind="step", step=1), dict(kind="epoch", step=1, sha256="cd" * 32)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_training(tmp_path, WEIGHTS)
    assert found == Training(
        "mpirun -n 3 python -m dist_vgg.train --data images --width 0.05", "12ab", "cd" * 32
    )
    assert "The source was at the commit 12ab. The run ended with" in card(training=found)
    assert "these are others of it" in card(training=found)
    own = Training("", "", WEIGHTS.sha256)
    assert "these are others of it" not in card(training=own)
    assert read_training(tmp_path, replace(WEIGHTS, dataset="00" * 32)) is None
    foreign = [{}, [], {**config_of(), "ranks": 1e999}, config_of(seed="a\nb"), config_of(data=1)]
    for content in foreign:
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert read_training(tmp_path, WEIGHTS) is None


def parsed(text: str) -> dict[str, Any]:
    """A card's front matter."""
    _, front, _ = text.split("---\n", 2)
    found = {
        key: json.loads(value) for key, value in (x.split(": ", 1) for x in front.splitlines())
    }
    try:
        import yaml
    except ImportError:
        return found
    assert yaml.safe_load(front) == found
    return found


def test_front_matter() -> None:
    found = parsed(card(measured=MEASURED))
    results = dict(
        task=dict(type="image-classification"),
        dataset=dict(name="mnist", type="ylecun/mnist", split="test"),
        metrics=[dict(type="accuracy", value=0.75), dict(type="loss", value=0.5)],
    )
    assert found == {
        "license": "mit",
        "library_name": "dist_vgg",
        "pipeline_tag": "image-classification",
        "tags": ["vgg16", "vgg", "safetensors"],
        "datasets": ["ylecun/mnist"],
        "metrics": ["accuracy"],
        "model-index": [dict(name="name", results=[results])],
    }
    assert "75.00% of the 4 test images, at a loss of 0.5000." in card(measured=MEASURED)
    other = parsed(card(measured=replace(MEASURED, dataset="12" * 32)))
    assert other["model-index"][0]["results"][0]["dataset"]["name"] == "data set 1212121212121212"
    plain = parsed(card(some_weights(COLOURS)))
    assert not {"datasets", "metrics", "model-index"} & plain.keys()


def test_names_of_any_kind_stay_yaml() -> None:
    odd = 'a: "b" #c 犬 😀'
    assert parsed(front_matter(odd, WEIGHTS, "mit", MEASURED))["model-index"][0]["name"] == odd


def test_what_the_card_tells() -> None:
    text = card(replace(some_weights(COLOURS), precision="float16", made_from="ef" * 32))
    for words in (
        "VGG16 of width 0.05, trained on images by dist_vgg in 7 steps.",
        "| input | 96x96 pixels, channels: 3, from 0 to 255; a picture scaled so that it fills",
        "[120.5, 110.25, 99.125], [60.0, 61.5, 70.25]",
        ", in float16 |",
        f"| rounded from the float32 parameters | `{'ef' * 32}` |",
        '    ["class 0", "class 1", ',
    ):
        assert words in text
    assert "rounded from" not in card()
    assert "The classes are the numbers from 0 to 9." in card()


def test_the_docs_have_the_lines_for_torchvision() -> None:
    page = (ROOT / "docs" / "guides" / "deploy.md").read_text()
    mean, std = 33.74893151189631, 76.37003799200292  # of MNIST's first 55,000 images
    lines = torchvision_lines(replace(WEIGHTS, mean=(mean,), std=(std,)))
    assert f"```python\n{lines}```" in page


@pytest.mark.parametrize("network", NETWORKS)
def test_the_lines_for_torchvision(
    network: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_disk: None,
) -> None:
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; it only serves to compare"
    )
    weights, net = ready(network)
    write_safetensors(tmp_path / "model.safetensors", weights, net)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    models = ModuleType("torchvision.models")
    monkeypatch.setattr(models, network["name"], stand_in(torch, network["name"]), raising=False)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    space: dict[str, Any] = {}
    exec(torchvision_lines(weights), space)
    assert space["pixels"].shape == (1, network["channels"], network["size"], network["size"])
    images = pixels(network)
    x = torch.tensor(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        found = space["model"]((x - space["mean"]) / space["std"]).numpy()
    close(found, logits(net, weights, images))


def stand_in(torch: Any, name: str) -> Callable[..., Any]:
    """torchvision's function of that name, with layers so narrow that all must be replaced."""
    shapes = {f"features.{k}.weight": (1, 1) for k in range(40)}
    shapes |= {f"classifier.{k}.weight": (1, 1) for k in (0, 3, 6)}

    class Arrays(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return torch.zeros(shapes[key])

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, num_classes: int, init_weights: bool) -> None:
            super().__init__()
            parts = torchvision_like(torch, PLANS[name], Arrays())
            self.features, self.classifier = parts.features, parts.classifier
            self.avgpool = torch.nn.AdaptiveAvgPool2d((7, 7))

        def forward(self, x: Any) -> Any:
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    return Model
