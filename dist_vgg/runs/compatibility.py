"""Whether a run can go on: with the options it was started with, on the data it was trained on."""

from collections.abc import Mapping
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError
from dist_vgg.data.set_info import SetInfo
from dist_vgg.kernels.sets import AUTO, NUMPY, load
from dist_vgg.runs.config import TrainConfig, without_conv
from dist_vgg.runs.fields import flag


def stored_options(stored: Mapping[str, Any], **others: Any) -> TrainConfig:
    """The options that a run was started with, if any; `others` go before them.

    A run that names no kernels was made before there was a choice, with NumPy's. A given "auto"
    leaves a run the kernels that it has, and no given SHA-256 of --init the one that it found.
    """
    others = without_conv(others)
    if stored:
        stored = {"kernels": NUMPY, **without_conv(stored)}
        if others.get("kernels") == AUTO:
            del others["kernels"]
        if not others.get("init_sha256", "given"):
            del others["init_sha256"]
    try:
        return TrainConfig(**{**stored, **others})
    except TypeError as error:
        raise UserError(
            f"the run was started by another version of this program: {error}"
        ) from error


def check_held_out(info: SetInfo, folder: str) -> None:
    """Raise UserError where a set has only test images to score, which are for the end only."""
    if not info.held_out:
        raise UserError(
            f"--validate scores held-out training images, and {folder} has none (the test images "
            "are for the end only); prepare it with: python -m data_prep --held-out N"
        )


def check_kernels(stored: Mapping[str, Any], version: int) -> None:
    """Refuse to go on where this machine lacks the kernels that a run's stored options name.

    `version` is that of their bits when the run began.
    """
    name = stored_options(stored).kernel_set
    found = load(name).VERSION
    if found != version:
        raise UserError(
            f"the run began with version {version} of the kernels {name}, and this dist_vgg has "
            f"version {found}, which rounds differently: install the dist_vgg that began it, or "
            "start a new run without --resume"
        )


def check_resumed(config: TrainConfig, info: SetInfo, header: Mapping[str, Any]) -> None:
    """Refuse to go on with another network, data set or recipe than the checkpoint's."""
    if header["dataset"] != info.digest:
        raise UserError(
            f"the checkpoint was trained on another data set than {config.data} holds "
            f"({header['dataset'][:16]} against {info.digest[:16]}); name the right one with --data"
        )
    if (header["request"], header["shards"]) != (info.request, info.shards):
        raise UserError(
            f"the checkpoint was trained on {plural(header['shards'], 'shard')} and {config.data} "
            f"has the same images in {info.shards} others; name the right folder with --data"
        )
    check_kernels(header["config"], header["kernels_version"])
    before = stored_options(header["config"]).result_options()
    for name, value in config.result_options().items():
        if name == "epochs" and config.schedule == "constant":
            continue
        if value != before[name]:
            option = flag(name)
            mend = f"leave {option} out to go on, or start a new run without --resume"
            if name == "epochs":
                mend = f"--schedule {config.schedule} spreads its rates over those: leave "
                mend += f"{option} out to finish them, or start a new run in another --out"
            old = before[name]
            was = f"without {option}" if old == "" else f"with {option} {old}"
            raise UserError(f"{option} {value} contradicts the checkpoint, trained {was}; {mend}")
