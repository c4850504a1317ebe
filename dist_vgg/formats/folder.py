"""A folder to publish: model.safetensors, config.json, and a README.md that is the model card."""

import json
from pathlib import Path
from typing import Any

from dist_vgg import __version__
from dist_vgg.base import bounds
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import write_bytes, write_text
from dist_vgg.formats.card import model_card
from dist_vgg.formats.evidence import Measured, read_training
from dist_vgg.formats.metadata import facts
from dist_vgg.formats.safetensors import as_safetensors
from dist_vgg.formats.trained import MODEL
from dist_vgg.network.sequential import Sequential
from dist_vgg.state.weights import Weights

CONFIG, CARD = "config.json", "README.md"


def write_folder(
    folder: Path,
    weights: Weights,
    net: Sequential,
    run: Path,
    license_id: str,
    measured: Measured | None,
) -> None:
    """Write the three files, each whole or not at all; those of an earlier export are replaced.

    `run` is the folder whose records may say how the weights were trained. Raises UserError for
    int8.
    """
    name = folder.resolve().name
    name = name if bounds.text(name) and name else weights.source
    config = json.dumps(as_config(weights, net), indent=2, ensure_ascii=False)
    card = model_card(name, weights, net, license_id, measured, read_training(run, weights))
    content = as_safetensors(weights, net)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"can't make the folder --out {folder}: {error.strerror}") from error
    write_bytes(folder / MODEL, content)
    write_text(folder / CONFIG, config + "\n")
    write_text(folder / CARD, card)


def check_folder(folder: Path) -> None:
    """Raise UserError where an export would replace files that are something else."""
    for name in (CONFIG, CARD):
        if (folder / name).exists() and not (folder / MODEL).exists():
            raise UserError(
                f"--out {folder} has a {name} that is not of an export; name a new folder"
            )


def as_config(weights: Weights, net: Sequential) -> dict[str, Any]:
    """What config.json holds: the fields of the weights, and sizes as other programs name them."""
    size, _, channels = net.input_shape
    return {
        "architecture": facts(weights)["network"]["name"],
        "num_classes": weights.network["classes"],
        "input_size": [channels, size, size],
        "parameters": net.parameter_count,
        **facts(weights),
        "dist_vgg": __version__,
    }
