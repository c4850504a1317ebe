"""The tables of `dist_vgg.bench`, from its `--json`."""

from collections.abc import Mapping
from typing import Any

from .markdown import code, folded, table, text

OURS = "dist_vgg"


def compared_table(found: Mapping[str, Any]) -> str:
    """Images a second of all that took turns, ours first, and how they compare."""
    contenders: Mapping[str, Any] = found["results"]["contenders"]
    rows = []
    for name, one in contenders.items():
        shown = f"**{text(name)}**" if one["family"] == OURS else text(name)
        memory = (one.get("memory_gib") or [None, None])[1]
        rows.append([
            shown,
            reading(one["images_per_s"], 1),
            f"{one['share_of_peak']:.2f}" if "share_of_peak" in one else "–",
            f"{memory['median']:.2f} GiB" if memory else "–",
        ])  # fmt: skip
    parts = [table(["", "images/s", "of peak", "memory of all"], rows)]
    parts += [f"- {line}" for line in ratios(contenders)]
    return "\n".join(parts) + "\n"


def ratios(contenders: Mapping[str, Any]) -> list[str]:
    """How each of ours compares with the best of each other family."""
    families: dict[str, list[str]] = {}
    for name, one in contenders.items():
        families.setdefault(one["family"], []).append(name)

    def rate(name: str) -> float:
        return float(contenders[name]["images_per_s"]["median"])

    ours = families.pop(OURS, [])
    return [
        f"{text(name)}: {rate(name) / rate(max(others, key=rate)):.2f} times "
        f"{text(max(others, key=rate))}"
        for name in ours
        for others in families.values()
    ]


def audit_table(found: Mapping[str, Any]) -> str:
    """What a step pays for being audited and kept, in milliseconds and as its share."""
    options, results = found["options"], found["results"]
    more = results.get("more")
    row = [
        f"{options['ranks']} ranks, route {results['route']}",
        reading(more, 0) + " ms" if more else "–",
        f"{results['share']:.1%}",
    ]
    return table(["", "more in each step", "of the step"], [row])


def deploy_table(found: Mapping[str, Any]) -> str:
    """Each network in each precision: bytes, accuracy and speed; then the hashes, folded."""
    rows, hashes, of = [], [], ""
    for label, one in found["results"]["networks"].items():
        name, speed = text(label), [reading(one["images_per_s"], 0), reading(one["ms"], 2)]
        for kind, file in one["files"].items():
            row = [name, kind if "total" in file else f"int8, as {kind}", f"{file['bytes']:,}"]
            if "total" in file:
                row += [f"{file['accuracy']:.2%}", *speed]
                hashes.append([text(label), kind, code(file["sha256"][:16])])
                of = f"{file['total']:,} {file['images']} images"
            rows.append(row + [""] * (6 - len(row)))
            name, speed = "", ["", ""]
    head = ["", "precision", "bytes", "accuracy", "images/s", "ms, one image"]
    kernels = found["results"]["kernels"]
    note = f"Accuracy on {of}; speed of {kernels} kernels in one process with one thread.\n"
    shown = table(["", "precision", "SHA-256 of the parameters"], hashes, 3)
    return "\n".join([table(head, rows, 2), note, folded("The hash of each", shown)])


def scaling_table(found: Mapping[str, Any]) -> str:
    """Strong and weak scaling: the step at each number of ranks, and what it is lost to."""
    parts = []
    for kind in ("strong", "weak"):
        rows = []
        for i, one in enumerate(found["results"][kind]):
            mark = " (more than cores)" if one["oversubscribed"] else ""
            percent = {key: 100 * one["efficiency"][key] for key in ("median", "low", "high")}
            rows.append([
                f"{one['ranks']}{mark}",
                str(one["shards"]),
                reading(one["seconds"], 3),
                reading(one["images_per_s"], 1),
                f"{one['speedup']['median']:.2f}",
                f"{reading(percent, 0)} %" if i else "the base",
                *(f"{share:.0%}" for share in one["shares"].values()),
                f"{one['hidden']:.0%}",
                f"{one['sent_bytes'] / 1e6:.1f}",
            ])  # fmt: skip
        head = [f"{kind}, ranks", "shards", "s a step", "images/s", "speedup", "efficiency"]
        shares = found["results"][kind][0]["shares"]
        parts.append(table([*head, *shares, "hidden", "MB sent"], rows))
    base = found["results"]["strong"][0]
    parts.append(
        f"In parentheses: the median's interval of {base['seconds']['confidence']:.1%} confidence. "
        f"Strong scaling ended with the same parameters at all ranks: "
        f"{code(base['sha256'][:16])}.\n"
    )
    return "\n".join(parts)


def reading(spread: Mapping[str, Any], decimals: int) -> str:
    """A median, with the lowest and highest reading behind it."""
    middle, low, high = (f"{spread[key]:,.{decimals}f}" for key in ("median", "low", "high"))
    return f"{middle} ({low}–{high})"
