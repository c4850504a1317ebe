"""The tables that the site's build makes of result files, old ones and those of the commands."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from generate.results import ABOUT, render, result_pages
from launcher import ROOT
from scalings import made_up_series

from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import write_json
from dist_vgg.bench.scaling_series import Job
from dist_vgg.chaos.faults import FAULTS
from dist_vgg.chaos.outcome import Outcome
from dist_vgg.chaos.plan import NARROW, draw
from dist_vgg.chaos.report import Result

RESULTS = ROOT / "docs" / "results"
NAMES = sorted(path.stem for path in RESULTS.glob("*.json") if path.name != ABOUT)
PAGES = result_pages(RESULTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_results_is_a_table_with_its_command(name: str) -> None:
    page = PAGES[f"results-{name}"]
    assert page.startswith("|")
    assert "```sh\n" in page
    assert not re.search(r"\b(None|nan)\b", page)
    pages = "".join(path.read_text() for path in RESULTS.glob("*.md"))
    assert pages.count(f"generated/results-{name}.md") == 1


def test_about_speaks_of_files_that_exist() -> None:
    assert set(json.loads((RESULTS / ABOUT).read_text())) <= set(NAMES)


def test_the_accuracies() -> None:
    assert (
        "| mnist-100 | 5 | 95.52 ± 0.77% | 95.98 ± 0.41% | 95.52 ± 0.86% | 95.99 ± 0.44% |"
        in PAGES["results-mnist-100"]
    )
    assert "| mnist-100-bfloat16 | 5 | 95.51 ± 0.63% |" in PAGES["results-mnist-100-bfloat16"]
    assert "| fashion-mnist | 1 | 92.28% | 91.82% |" in PAGES["results-fashion-mnist"]
    assert "| cifar10 | 1 | 72.40% | 72.35% |" in PAGES["results-cifar10"]
    assert "| 98.78 ± 0.15% |" in PAGES["results-mnist-1000"]
    assert "| 98.77 ± 0.13% |" in PAGES["results-mnist-1000-bfloat16"]
    assert (
        "| optimizer adam, lr 2e-4, dropout 0 | 3 | 98.28 ± 0.19% |"
        in (PAGES["results-optimizers"])
    )
    assert "| optimizer sgd, lr 0.02 | 1 | 94.25% | 0.25 |" in PAGES["results-rates"]
    assert (
        "**dist\\_vgg, 2 ranks** | 90.1 (75.2–92.9) | 2.14 | 1.60 GiB |"
        in (PAGES["results-step-2-ranks"])
    )
    assert len(re.findall(r"\| `[0-9a-f]{16}` \|", PAGES["results-batch"])) == 12


def sweep_run(seed: int, accuracy: float) -> dict[str, Any]:
    """As dist_vgg.sweep writes it."""
    model = {"sha256": 64 * "a", "test": accuracy, "test, shifted": accuracy}
    return dict(
        variant={"lr": "0.1"}, seed=seed, folder="sweep/x", images="test", command="python",
        minutes=1.5, loss=[2.3, 1.0], models={"weights": model, "average": model},
    )  # fmt: skip


def test_what_sweep_writes() -> None:
    page = render([sweep_run(0, 0.97), sweep_run(1, 0.99)], {"name": "x"})
    assert "| lr 0.1 | 2 | 98.00 ± 1.41% | 98.00 ± 1.41% |" in page
    assert "| lr 0.1, seed 1 | `aaaaaaaaaaaaaaaa` | `aaaaaaaaaaaaaaaa` | 99.00% |" in page


def test_what_bench_writes(tmp_path: Path) -> None:
    def contender(family: str, *rates: float) -> dict[str, Any]:
        memory = [Readings((2**20,)), Readings((2**21,))]
        return dict(
            family=family, images_per_s=Readings(rates), share_of_peak=1.3, memory_gib=memory
        )

    contenders = {
        "dist_vgg, 2 ranks": contender("dist_vgg", 60, 61, 62),
        "torch, 2 threads, batch 32": contender("torch", 30.5),
        "torch, 2 threads, batch 64": contender("torch", 20),
    }
    path = tmp_path / "step.json"
    write_json(path, dict(benchmark="step", results=dict(contenders=contenders)))
    page = render(json.loads(path.read_text()), {"name": "step"})
    assert "| **dist\\_vgg, 2 ranks** | 61.0 (60.0–62.0) | 1.30 |" in page
    assert "- dist\\_vgg, 2 ranks: 2.00 times torch, 2 threads, batch 32\n" in page


def test_what_bench_deploy_writes(tmp_path: Path) -> None:
    def scored(right: int, size: int) -> dict[str, Any]:
        score = dict(right=right, total=2000, accuracy=right / 2000, images="test")
        return dict(bytes=size, sha256=64 * "b", **score)

    files = {"float32": scored(1990, 4000), "int8": scored(1989, 1000), "html": dict(bytes=1500)}
    one = dict(files=files, images_per_s=Readings((2000, 2100, 1900)), ms=Readings((2.345,)))
    found = dict(networks={"width 0.125": one}, kernels="compiled")
    path = tmp_path / "deploy.json"
    write_json(path, dict(benchmark="deploy", results=found))
    page = render(json.loads(path.read_text()), {"name": "deploy"})
    assert "\nAccuracy on 2,000 test images; speed of compiled kernels in one" in page
    speed = "2,000 (1,900–2,100) | 2.35 (2.35–2.35)"
    assert f"| width 0.125 | float32 | 4,000 | 99.50% | {speed} |\n" in page
    assert "|  | int8 | 1,000 | 99.45% |  |  |\n" in page
    assert "|  | int8, as html | 1,500 |  |  |  |\n" in page
    assert page.count("| `bbbbbbbbbbbbbbbb` |") == 2


def test_what_bench_scaling_writes(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    both = dict(
        strong=made_up_series([Job(1, 8), Job(4, 8)], (2, 1), cores=2),
        weak=made_up_series([Job(1, 2), Job(4, 8)], (1, 2), cores=4),
    )
    found = {kind: [one.as_dict() for one in points] for kind, points in both.items()}
    write_json(path, dict(benchmark="scaling", results=found))
    page = render(json.loads(path.read_text()), {"name": "scaling"})
    strong = "2.00 | 50 (41–61) % | 75% | 12% | 6% | 6% | 3% | 2.0 |"
    assert (
        f"| 4 (more than cores) | 8 | 1.000 (0.900–1.100) | 128.0 (116.4–142.2) | {strong}" in page
    )
    assert "| 1 | 2 | 1.000 (0.900–1.100) | 32.0 (29.1–35.6) | 1.00 | the base |" in page
    assert "interval of 96.1% confidence" in page
    assert "at all ranks: `aaaaaaaaaaaaaaaa`" in page


def test_what_chaos_writes() -> None:
    trials = []
    for number, kind in enumerate(("kill-update", "kill-update", "slow")):
        plan = draw(0, number, [kind], NARROW)
        wrong = ["it hung"] if number == 1 else []
        trials.append(Result(plan, Outcome(steps_lost=number, recovery=1.5), wrong).as_dict())
    page = render(json.loads(json.dumps(dict(sha256="", trials=trials))), {"name": "chaos"})
    assert "kill-update" in FAULTS
    assert "| `kill-update` | 2 | 1 | at most 1 | 1.5, at most 1.5 |" in page
    assert "| all | 3 | 2 | at most 2 | 1.5, at most 1.5 |" in page


def test_what_nobody_writes_is_refused() -> None:
    with pytest.raises(ValueError, match="no command writes"):
        render({"x": 1}, {"name": "x"})
