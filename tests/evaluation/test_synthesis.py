"""Metrics of faces generated from label maps, for generators with known scores."""

import numpy as np
import pytest

from tfface.data.label_maps import CLASSES_19
from tfface.evaluation.synthesis import REGIONS, evaluate_synthesis, grid_power, region_means

SIZE, SKIN, HAIR = 32, CLASSES_19.index("skin"), CLASSES_19.index("hair")


class ChannelSegmenter:
    """A segmenter that reads the class that `flat` encodes in the first channel."""

    def label_maps(self, images):
        return np.round((np.asarray(images)[..., 0] + 1.0) * 9.0).astype(np.int32)


def flat(labels, style):
    """Images with the class in the first channel and the style in the others."""
    images = np.full((*labels.shape, 3), 0.2 * style - 1.0, np.float32)
    images[..., 0] = labels / 9.0 - 1.0
    return images


def test_region_means_ignore_small_regions():
    labels = np.zeros((2, 8, 8), np.int32)
    labels[0, :4], labels[1, 0, :3] = SKIN, SKIN
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[0, :4], images[0, 4:] = (0.5, 0.0, -0.5), 1.0
    means = region_means(images, labels)
    assert means.shape == (2, len(REGIONS), 3)
    np.testing.assert_allclose(means[0, REGIONS.index("skin")], (0.5, 0.0, -0.5))
    np.testing.assert_allclose(means[0, REGIONS.index("background")], 1.0)
    assert np.isnan(means[0, REGIONS.index("hair")]).all()
    assert np.isnan(means[1, REGIONS.index("skin")]).all()  # Three pixels are too few.


def test_grid_power_of_stripes():
    """Stripes of amplitude a have power a**2 at period 2 and a**2 / 2 at period 4 (a cosine)."""
    x = np.arange(SIZE)
    shown = np.zeros((4, SIZE, SIZE, 3), np.float32)
    shown[0] = 0.3 * np.cos(np.pi * x)[:, None]
    shown[1] = 0.3 * np.cos(np.pi * x / 2)[:, None, None]
    shown[2] = 0.3 * np.cos(np.pi * x / 4)[:, None, None]
    shown[3] = 0.7
    np.testing.assert_allclose(grid_power(shown), [0.09, 0.045, 0, 0], atol=1e-9)


@pytest.fixture(scope="module")
def figures():
    def copied(labels, reference):
        return reference

    def nothing(labels, style):
        return np.full((*labels.shape, 3), -1.0, np.float32)

    return evaluate_synthesis(flat, nothing, copied, SIZE, 16, 3, 1, ChannelSegmenter())


def test_resegmentation_scores(figures):
    assert figures["maps"] == 16 and figures["styles"] == 3
    assert figures["segmentation"]["generated"]["miou"] == 1.0
    untrained = figures["segmentation"]["untrained"]
    assert 0 < untrained["miou"] < 0.1 and 0 < untrained["pixel_accuracy"] < 0.7
    assert 0 < figures["segmentation"]["real"]["miou"] < 0.5


def test_diversity_between_styles(figures):
    """Styles 1, 2, 3 differ by .1, .1 and .2 of the range in two of three channels."""
    diversity = figures["diversity"]
    assert diversity["generated"] == pytest.approx(2 / 3 * (0.1 + 0.1 + 0.2) / 3, rel=1e-4)
    assert 0.02 < diversity["real"] < 0.5
    assert diversity["ratio"] == pytest.approx(diversity["generated"] / diversity["real"])
    shares = {}
    for region, of_region in figures["diversity_by_region"].items():
        assert of_region["generated"] == pytest.approx(diversity["generated"], rel=1e-4)
        assert of_region["ratio"] == of_region["generated"] / of_region["real"]
        shares[region] = of_region["real"]
    # Other people's backgrounds and clothes differ more than their skin.
    assert min(shares["background"], shares["cloth"]) > shares["skin"] > 0


def test_grid_power_relative_to_real_faces(figures):
    grid = figures["grid"]
    assert grid["ratio"] == pytest.approx(grid["generated"] / grid["real"]) and grid["real"] > 0


def test_colours_depend_on_the_style_only(figures):
    for region in REGIONS:
        found = figures["colours"][region]
        assert found["same_style"] == pytest.approx(0.0, abs=1e-6)
        assert found["same_map"] == pytest.approx(2 / 3 * (0.1 + 0.1 + 0.2) / 3, rel=1e-4)


def test_copied_reference_scores_like_the_copy(figures):
    assert figures["reference"]["generated"] == figures["reference"]["copy"]
    assert figures["reference"]["copy"]["error"] > 0.02
    # The ground truth has the reference's colours in the map's regions, other faces do not.
    for region in ("skin", "background"):
        assert figures["palette"]["true"][region] < figures["palette"]["other"][region]
