"""Metrics with confidence intervals, tables of metrics, and the gallery of examples."""

import json

import numpy as np
import pytest

from tfface.evaluation.gallery import Gallery
from tfface.metrics.bootstrap import Measurements, image_errors, means, merge_results
from tfface.metrics.segmentation import Confusion, confusions
from tfface.metrics.tables import Row, flat, rows_of, table


def measured(kind="edited", per_person=1, **rows):
    measurements = Measurements()
    measurements.add(kind, rows, per_person)
    return measurements.result()


def test_metric_is_a_mean_with_an_interval_over_people():
    right = np.tile([1.0, 0.0], 50)
    found = measured(accuracy=means(right))
    assert found["edited"]["accuracy"] == 0.5
    low, high = found["intervals"]["edited"]["accuracy"]
    # 100 coin tosses: 0.5 plus and minus 1.96 * 0.05.
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.02)
    # Repeating each person's example adds no information.
    twice = measured(per_person=2, accuracy=means(np.repeat(right, 2)))
    assert twice == found
    # Each person has a mean of 0.5, so there is no variance between people.
    assert measured(per_person=2, accuracy=means(right))["intervals"]["edited"]["accuracy"] == [
        0.5,
        0.5,
    ]


def test_result_is_deterministic_and_independent_of_batches():
    values = np.random.default_rng(0).uniform(size=(40, 3))
    whole = measured(error=means(values))
    measurements = Measurements()
    for part in np.split(values, 4):
        measurements.add("edited", {"error": means(part)})
    assert measurements.result() == whole == measured(error=means(values))


def test_image_errors_inside_and_outside_a_region():
    truth = np.zeros((2, 4, 4, 3), np.float32)
    images, inside = truth.copy(), np.zeros((2, 4, 4), bool)
    inside[:, 0], images[:, 0], images[0, 1] = True, 0.5, 1.0
    found = measured(**image_errors(images, truth, inside))["edited"]
    assert found["error_inside"] == 0.25 and found["error_outside"] == pytest.approx(0.5 / 6)
    assert found["error"] == pytest.approx((2 * 0.25 + 0.5) / 8)
    assert found["psnr"] == pytest.approx(-10 * np.log10((2 * 0.25**2 + 0.5**2) / 8))
    same = measured(**image_errors(truth, truth, inside))
    assert same["edited"]["error_inside"] == 0.0 and same["edited"]["psnr"] is None
    assert same["intervals"]["edited"]["psnr"] is None
    json.dumps(same, allow_nan=False)


def test_nan_image_makes_the_error_undefined():
    images = np.full((3, 2, 2, 3), 0.5)
    images[1] = np.nan
    assert measured(**image_errors(images, np.zeros_like(images)))["edited"]["error"] is None


def test_segmentation_metrics_pool_all_pixels():
    random = np.random.default_rng(1)
    found, truth = random.integers(0, 19, (2, 6, 8, 8))
    confusion = Confusion()
    confusion.add(found, truth)
    expected = confusion.result()
    counts = confusions(found, truth)
    names = ("miou", "mean_f1", "pixel_accuracy")
    pooled = measured("parts", **dict.fromkeys(names, counts))
    assert pooled["parts"] == {name: pytest.approx(expected[name]) for name in names}
    low, high = pooled["intervals"]["parts"]["miou"]
    assert low < expected["miou"] < high


def test_merge_results_includes_the_intervals():
    one, other = (measured(kind, accuracy=means(np.ones(3))) for kind in ("edited", "copy"))
    both = merge_results(one, other)
    assert set(both) == set(both["intervals"]) | {"intervals"} == {"edited", "copy", "intervals"}


def test_flat_names_and_table_cells():
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


def test_gallery_shows_best_median_and_worst():
    gallery, scores = Gallery(), np.random.default_rng(2).permutation(20) / 100
    for part in np.split(np.arange(20), 4):
        images = np.full((5, 2, 2, 3), 0.1, np.float32)
        gallery("error", [f"face {i}" for i in part], {"generated": images}, scores[part])
    (section,) = gallery.sections()
    places = [
        section.index(f"{kind} face {int(np.flatnonzero(scores == score)[0])} {score:.2%}")
        for kind, score in (
            ("best", 0.0), ("best", 0.01), ("median", 0.09), ("median", 0.1),
            ("worst", 0.18), ("worst", 0.19),
        )
    ]  # fmt: skip
    assert places == sorted(places) and section.count("<img") == 6


def test_gallery_limits_the_images_it_keeps():
    gallery, scores = Gallery(), np.random.default_rng(3).permutation(3000) / 3000
    for part in np.split(np.arange(3000), 30):
        gallery(
            "error", [f"{i}" for i in part], {"generated": np.zeros((100, 2, 2, 3))}, scores[part]
        )
    shown = gallery._shown["error"]
    assert len(shown.kept) <= 612 and len(shown.scores) == 3000
    (section,) = gallery.sections()
    best, worst = int(scores.argmin()), int(scores.argmax())
    assert f"best {best} 0.00%" in section and f"worst {worst} 99.97%" in section
    # The 1500th and the 1501st of 3000.
    for place in (1499, 1500):
        assert f"median {int(np.flatnonzero(scores == place / 3000)[0])} " in section
