"""Figures with confidence intervals, tables of them, and the best and worst of what was shown."""

import json

import numpy as np
import pytest

from tfface.evaluation.gallery import Gallery
from tfface.metrics.bootstrap import Tally, compared, joined, means
from tfface.metrics.segmentation import Confusion, confusions
from tfface.metrics.tables import Row, flat, rows_of, table


def tallied(kind="edited", per=1, **rows):
    tally = Tally()
    tally.add(kind, rows, per)
    return tally.result()


def test_a_measure_is_the_mean_over_all_and_its_interval_is_of_people():
    right = np.tile([1.0, 0.0], 50)
    found = tallied(accuracy=means(right))
    assert found["edited"]["accuracy"] == 0.5
    low, high = found["intervals"]["edited"]["accuracy"]
    # Of 100 throws of a coin: 0.5 plus and minus 1.96 * 0.05.
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.02)
    # Two examples of one person say nothing more than one does.
    twice = tallied(per=2, accuracy=means(np.repeat(right, 2)))
    assert twice == found
    # Each person is half right: there is nothing between people.
    assert tallied(per=2, accuracy=means(right))["intervals"]["edited"]["accuracy"] == [0.5, 0.5]


def test_batches_do_not_matter_and_the_same_gives_the_same():
    values = np.random.default_rng(0).uniform(size=(40, 3))
    whole = tallied(error=means(values))
    tally = Tally()
    for part in np.split(values, 4):
        tally.add("edited", {"error": means(part)})
    assert tally.result() == whole == tallied(error=means(values))


def test_errors_inside_and_outside():
    truth = np.zeros((2, 4, 4, 3), np.float32)
    made, inside = truth.copy(), np.zeros((2, 4, 4), bool)
    inside[:, 0], made[:, 0], made[0, 1] = True, 0.5, 1.0
    found = tallied(**compared(made, truth, inside))["edited"]
    assert found["error_inside"] == 0.25 and found["error_outside"] == pytest.approx(0.5 / 6)
    assert found["error"] == pytest.approx((2 * 0.25 + 0.5) / 8)
    assert found["psnr"] == pytest.approx(-10 * np.log10((2 * 0.25**2 + 0.5**2) / 8))
    same = tallied(**compared(truth, truth, inside))
    assert same["edited"]["error_inside"] == 0.0 and same["edited"]["psnr"] is None
    assert same["intervals"]["edited"]["psnr"] is None
    json.dumps(same, allow_nan=False)


def test_a_image_that_is_no_number_is_not_passed_over():
    made = np.full((3, 2, 2, 3), 0.5)
    made[1] = np.nan
    assert tallied(**compared(made, np.zeros_like(made)))["edited"]["error"] is None


def test_label_maps_are_measured_as_one_set():
    random = np.random.default_rng(1)
    found, truth = random.integers(0, 19, (2, 6, 8, 8))
    confusion = Confusion()
    confusion.add(found, truth)
    expected = confusion.result()
    counts = confusions(found, truth)
    names = ("miou", "mean_f1", "pixel_accuracy")
    made = tallied("parts", **dict.fromkeys(names, counts))
    assert made["parts"] == {name: pytest.approx(expected[name]) for name in names}
    low, high = made["intervals"]["parts"]["miou"]
    assert low < expected["miou"] < high


def test_results_are_joined_with_their_intervals():
    one, other = (tallied(kind, accuracy=means(np.ones(3))) for kind in ("edited", "copy"))
    both = joined(one, other)
    assert set(both) == set(both["intervals"]) | {"intervals"} == {"edited", "copy", "intervals"}


def test_names_and_tables_of_figures():
    figures = {
        "people": 3, "edited": {"right": 0.5, "psnr": 20.0}, "copy": {"right": 0.0, "psnr": None},
        "intervals": {"edited": {"right": [0.25, 0.75], "psnr": [20.0, 20.0]}},
    }  # fmt: skip
    assert flat(figures) == {
        "people": 3.0, "edited/right": 0.5, "edited/psnr": 20.0, "copy/right": 0.0
    }  # fmt: skip
    kinds = {"edited": "edited", "copy": "copy"}
    rows = rows_of(kinds, {"right": ("it is right", "share"), "psnr": ("PSNR", "dB")})
    rows += (Row("of nothing", ("a/b", "c/d")),)
    assert table(rows, figures) == [
        ["it is right", "50.0 % (25.0 to 75.0)", "0.0 %"],
        ["PSNR", "20.0 dB", "exact"],
    ]
    assert table(rows, figures, intervals=False)[0][1] == "50.0 %"


def test_the_best_the_median_and_the_worst_are_shown():
    gallery, scores = Gallery(), np.random.default_rng(2).permutation(20) / 100
    for part in np.split(np.arange(20), 4):
        images = np.full((5, 2, 2, 3), 0.1, np.float32)
        gallery("error", [f"face {i}" for i in part], {"made": images}, scores[part])
    (section,) = gallery.sections()
    places = [
        section.index(f"{kind} face {int(np.flatnonzero(scores == score)[0])} {score:.2%}")
        for kind, score in (
            ("best", 0.0), ("best", 0.01), ("median", 0.09), ("median", 0.1),
            ("worst", 0.18), ("worst", 0.19),
        )
    ]  # fmt: skip
    assert places == sorted(places) and section.count("<img") == 6


def test_of_many_examples_few_images_are_kept():
    gallery, scores = Gallery(), np.random.default_rng(3).permutation(3000) / 3000
    for part in np.split(np.arange(3000), 30):
        gallery("error", [f"{i}" for i in part], {"made": np.zeros((100, 2, 2, 3))}, scores[part])
    shown = gallery._shown["error"]
    assert len(shown.kept) <= 612 and len(shown.scores) == 3000
    (section,) = gallery.sections()
    best, worst = int(scores.argmin()), int(scores.argmax())
    assert f"best {best} 0.00%" in section and f"worst {worst} 99.97%" in section
    # The 1500th and the 1501st of 3000.
    for place in (1499, 1500):
        assert f"median {int(np.flatnonzero(scores == place / 3000)[0])} " in section
