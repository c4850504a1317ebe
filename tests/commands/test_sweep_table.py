"""The tables of a sweep."""

from dist_vgg.sweep.table import tables


def test_means_and_deviations_are_over_the_seeds_of_a_variant() -> None:
    found = [
        dict(variant={"lr": lr}, seed=seed, minutes=2.0, images="test",
             models=dict(weights=dict(test=accuracy, sha256="ab" * 32)))
        for lr, seed, accuracy in (("1", 0, 0.5), ("2", 0, 0.9), ("1", 1, 0.6), ("2", 1, 0.9))
    ]  # fmt: skip
    text = tables(found)
    assert "lr 1      2     55.00 ± 7.07" in text
    assert "lr 2      2     90.00 ± 0.00" in text
    assert '"test" is on the test images' in text
    found[0]["images"] = "held-out training"
    assert '"test" is on the held-out training or the test images' in tables(found)


def test_what_some_runs_have_not_is_a_dash() -> None:
    one = dict(test=0.5, sha256="ab" * 32)
    found = [
        dict(variant={"ema": ema}, seed=0, minutes=2.0, images="test", models=models)
        for ema, models in (("0", dict(weights=one)), ("0.9", dict(weights=one, average=one)))
    ]
    for several in (found, found[::-1]):
        lines = tables(several).splitlines()
        assert "average, test %" in lines[0]
        (without,) = (line for line in lines[:3] if line.startswith("ema 0 "))
        assert without.split()[-1] == "-"
