"""The benchmark of scaling: its intervals and efficiencies by hand, and a tiny run."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from launcher import one_line
from scalings import made_up_series

from dist_vgg.base.command_line import guarded
from dist_vgg.bench import __main__ as bench
from dist_vgg.bench import comparison, scaling
from dist_vgg.bench.chart import draw
from dist_vgg.bench.estimate import Estimate, coverage, rate, ratio
from dist_vgg.bench.processes import MeasurementFailed
from dist_vgg.bench.scaling_chart import ScalingChart
from dist_vgg.bench.scaling_series import Job
from dist_vgg.bench.scaling_table import report_text
from dist_vgg.training.rank_times import COLUMNS, WHERE

TINY = ("--width", "0.0625", "--kernels", "numpy", "--micro-batch", "2", "--steps", "2")


def started(*argv: str) -> int:
    """Go as far as to measure, without the process that first asks for the machine's software."""
    options = bench.own_parser().parse_args(["scaling", *argv])
    scaling.run(options)
    return 0


@pytest.mark.parametrize(
    ("count", "j", "percent"),
    [(1, 1, 0), (2, 1, 50), (5, 1, 93.75), (6, 1, 96.875), (8, 2, 92.96875), (9, 2, 96.09375)],
)
def test_coverage_by_throws_of_a_coin(count: int, j: int, percent: float) -> None:
    assert 100 * coverage(count, j) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (8, 0, 7), (9, 1, 7), (20, 5, 14)]
)
def test_the_narrowest_interval_that_is_sure_enough(count: int, low: int, high: int) -> None:
    found = Estimate.of([*range(count)][::-1])
    assert (found.low, found.median, found.high) == (low, (count - 1) / 2, high)


def test_intervals_hold_the_true_median_as_often_as_they_say() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 9))
    found = [Estimate.of(list(row)) for row in draws]
    share = np.mean([one.low <= np.log(2) <= one.high for one in found])
    assert share == pytest.approx(found[0].confidence, abs=0.015)


def test_ratios_are_from_the_ends_of_both_intervals() -> None:
    seconds = Estimate(2.0, 1.0, 4.0, 0.97)
    assert rate(8, seconds) == Estimate(4.0, 2.0, 8.0, 0.97)
    found = ratio(seconds, Estimate(1.0, 0.5, 2.0, 0.96))
    assert (found.median, found.low, found.high) == (2.0, 0.5, 8.0)
    assert found.confidence == pytest.approx(0.93)
    assert found.percent == "200% (50–800%)"


def test_strong_scaling_by_hand() -> None:
    jobs = [Job(2, 8), Job(4, 8), Job(6, 8)]
    base, four, six = made_up_series(jobs, (3.0, 2.0, 1.5), cores=4)
    assert base.speedup == base.efficiency == Estimate(1, 1, 1, 1)
    assert base.images_per_s.median == pytest.approx(8 * 16 / 3)
    assert four.speedup.median == pytest.approx(1.5)
    assert four.efficiency.median == pytest.approx(0.75)  # of twice the base's ranks
    assert four.efficiency.low == pytest.approx(0.75 * 0.9 / 1.1)
    assert six.efficiency.median == pytest.approx(2 / 3)
    assert four.computing == pytest.approx(4 * 2 / (2 * 3))  # rank-seconds for the same images
    assert [point.oversubscribed for point in (base, four, six)] == [False, False, True]
    assert [job.balance for job in jobs] == [1, 1, pytest.approx(8 / 6 / 2)]


def test_weak_scaling_by_hand() -> None:
    _, two = made_up_series([Job(1, 3), Job(2, 6)], (1.0, 1.25))
    assert two.efficiency.median == pytest.approx(1 / 1.25)
    assert two.speedup.median == pytest.approx(2 / 1.25)
    assert two.computing == pytest.approx(1.25)


def test_the_tables_say_what_one_has_to_know() -> None:
    both = dict(
        strong=made_up_series([Job(1, 8), Job(3, 8)], (3, 1.5), cores=2),
        weak=made_up_series([Job(1, 2), Job(3, 6)], (1, 1.5), cores=2),
    )
    words = report_text(both, steps=3)
    assert "base: this program on 1 rank, not another, serial program" in words
    assert "3 ranks *" in words and "* oversubscribed" in words
    assert "3 ranks, 8 shards: one rank hosts more than another, so at most 89% eff" in words
    assert "the same bits at 1 and 3 ranks in all rounds, parameters aaaaaaaaaaaaaaaa" in words
    assert "interval of 96.1% confidence, by order statistics\n" in words
    assert "at least 92.2%" in words


def test_means_of_all_ranks() -> None:
    row = np.zeros(len(COLUMNS))
    spent = dict(computing=4, waiting=2, exposed=1, hidden=3, sent_bytes=5e6, update=0.5, audit=0.5)
    for name, value in spent.items():
        row[WHERE[name]] = value
    found = scaling.means(row, seconds=8.0)
    assert found["shares"] == dict(computing=0.5, waiting=0.25, exchange=0.125, rest=0.125)
    assert (found["hidden"], found["sent_bytes"]) == (0.375, 5e6)


def test_machines_count_cores_once() -> None:
    names, allowed = ["a", "a", "b"], [[0, 1], [1, 2], [5]]
    expected = [dict(ranks=2, cores=3), dict(ranks=1, cores=1)]
    assert scaling.machines(names, allowed) == expected


def test_ranks_that_nobody_has_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [scaling.up_to(most) for most in (1, 2, 6, 8)] == [
        [1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]
    ]  # fmt: skip
    options = argparse.Namespace(ranks=[6, 3], shards=None, shards_a_rank=None)
    scaling.settle(options, scaling.Hosts(None, 0))
    assert (options.ranks, options.shards, options.shards_a_rank) == ([3, 6], 12, 2)
    monkeypatch.setattr(scaling, "cores", lambda: 64)
    options = argparse.Namespace(ranks=None, shards=5, shards_a_rank=None)
    scaling.settle(options, scaling.Hosts(None, 0))
    assert (options.ranks, options.shards, options.shards_a_rank) == ([1, 2, 4, 5], 5, 1)


def test_a_tiny_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    jobs = ("--ranks", "2,1", "--shards", "4", "--repeat", "2")
    assert bench.main(["scaling", *TINY, *jobs, "--json", str(path)]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    found = json.loads(path.read_text())["results"]
    strong, weak = found["strong"], found["weak"]
    assert [(one["ranks"], one["shards"]) for one in strong] == [(1, 4), (2, 4)]
    assert [(one["ranks"], one["shards"]) for one in weak] == [(1, 2), (2, 4)]
    assert strong[0]["sha256"] == strong[1]["sha256"] == weak[1]["sha256"] != weak[0]["sha256"]
    assert strong[0]["sha256"][:16] in output
    for one in strong + weak:
        assert len(one["values"]) == 2
        assert one["seconds"]["low"] == min(one["values"])
        assert one["images_per_s"]["median"] == pytest.approx(
            2 * one["shards"] / one["seconds"]["median"]
        )
        assert set(one["shares"]) == {"computing", "waiting", "exchange", "rest"}
        assert all(0 <= share < 1 for share in one["shares"].values())
        assert one["shares"]["computing"] > 0.05
    assert "1 rank, base" in output
    assert "50.0% confidence, by order statistics; 6 rounds or more give 95%" in output


def test_other_bits_end_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    one = dict(seconds=[1.0], shards=8, sha256=64 * "a")
    monkeypatch.setattr(
        comparison, "result_of", lambda name, command: {**one, "sha256": 64 * command[0]}
    )
    commands: dict[str, list[str]] = {"1 rank, 8 shards": ["a"], "2 ranks, 8 shards": ["b"]}
    with pytest.raises(MeasurementFailed, match=r"^2 ranks, 8 shards ended .* bbbbbbbbbbbbbbbb, "):
        scaling.measure_all(commands, 1)


def test_hosts_and_a_launcher_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("one slots=2\ntwo:2  # and more\n")
    found: dict[str, Sequence[str]] = {}

    class Enough(Exception):
        """Nothing is to be measured."""

    def note(commands: dict[str, Sequence[str]], rounds: int) -> None:
        found.update(commands)
        raise Enough

    monkeypatch.setattr(scaling, "measure_all", note)
    parser = argparse.ArgumentParser()
    scaling.add_options(parser)
    words = ["--hostfile", str(hosts), "--mpirun", "true -x PATH", *TINY]
    with pytest.raises(Enough):
        scaling.run(parser.parse_args(words))
    assert list(found) == [
        "1 rank, 8 shards", "2 ranks, 8 shards", "4 ranks, 8 shards",
        "1 rank, 2 shards", "2 ranks, 4 shards",
    ]  # fmt: skip
    for name, command in found.items():
        assert command[1:7] == ["-x", "PATH", "-hostfile", str(hosts), "-n", name.split()[0]]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("one:2\ntwo\n")
    for argv, words in (
        (["--ranks", "1"], "name several, as in --ranks 1,2"),
        (["--ranks", "1,9", "--shards", "8"], "--ranks 9 is more than --shards 8"),
        (["--hostfile", str(hosts)], "no number of ranks is given for two: write it into"),
        (["--hostfile", str(tmp_path / "none")], "can't read the hosts"),
        (["--mpirun", "no-such-mpirun", "--ranks", "1,2"], "no no-such-mpirun found"),
        (["--repeat", "0"], "0 is no whole number"),
    ):
        assert guarded("dist_vgg.bench", partial(started, *argv)) == 2
        assert words in one_line(capsys.readouterr().err)


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it only draws")
    ranks = (1, 2, 4, 8)
    both = dict(
        strong=made_up_series([Job(n, 8) for n in ranks], (8, 4.2, 2.6, 2.2), cores=4),
        weak=made_up_series([Job(n, n) for n in ranks], (1, 1.05, 1.3, 2.2), cores=4),
    )
    draw(tmp_path / "x.svg", ScalingChart(both), "a machine")
    picture = (tmp_path / "x.svg").read_text()
    for words in ("ideal", "strong, 8 ranks *", "weak, 1 rank", "waiting", "% of the step"):
        assert f"<!-- {words}" in picture
