"""Realism metrics: sets of images, pairs with the ground truth, and alternatives."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data
from tfface.data.base import Source
from tfface.errors import UserError
from tfface.evaluation.realism import KINDS, Judges, Realism
from tfface.evaluation.realism import table as table_of
from tfface.metrics.bootstrap import ImageRoles
from tfface.metrics.tables import table

SIZE = 32


def images(count, seed=0):
    """Smooth images float32 [N,S,S,3] in [-1,1]."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)
    return tf.image.resize(coarse, (SIZE, SIZE), "bilinear").numpy()


class Album(Source):
    """A source of given images, without labels."""

    def __init__(self, images):
        super().__init__(Data(size=SIZE))
        self.images = images

    def count(self, split):
        return len(self.images)

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        return tf.data.Dataset.from_tensor_slices({"image": self.images}).batch(batch_size)


REAL = images(24)
EDITED = ImageRoles(("edited",), "input", "true")


def realism_of(shown, source=None, roles=EDITED, cache=None, judges=None):
    """The metrics of images by caption, added in batches of five."""
    observed = []
    realism = Realism(
        judges or Judges(),
        source or Album(REAL),
        "test",
        observer=lambda *arguments: observed.append(arguments),
    )
    count = len(next(iter(shown.values())))
    for start in range(0, count, 5):
        batch = {caption: images[start : start + 5] for caption, images in shown.items()}
        names = [""] * len(next(iter(batch.values())))
        realism("error", names, batch, np.zeros(len(names)), roles)
    assert sum(len(names) for _, names, *_ in observed) == count
    return realism.result(cache)


def test_ground_truth_has_the_best_realism_metrics():
    noise = np.random.default_rng(1).normal(0, 0.4, REAL.shape)
    noisy = np.float32(REAL + noise)  # Partly outside [-1,1]: clipped, as in an image file.
    found = realism_of({"input": images(24, 2), "edited": noisy, "true": REAL})
    assert set(KINDS) < set(found) and found["target"]["ssim"] == pytest.approx(1)
    assert found["copy"]["ssim"] < found["generated"]["ssim"] < 1
    assert found["target"]["perceptual_random"] == pytest.approx(0, abs=1e-6)
    assert found["target"]["fid_proxy_random_24_test"] == pytest.approx(0, abs=1e-6)
    assert (
        found["generated"]["fid_proxy_random_24_test"]
        > found["copy"]["fid_proxy_random_24_test"]
        > 0
    )
    assert found["target"]["swd"] == 0 < found["generated"]["swd"]
    low, high = found["intervals"]["generated"]["ssim"]
    assert low < found["generated"]["ssim"] < high
    assert "identity" not in found["generated"]  # There is no identity network.
    cells = table(table_of(found)[1], {"realism": found})
    assert ["ssim", f"{found['generated']['ssim']:.4g}"] in [row[:2] for row in cells]


def test_realism_does_not_depend_on_image_order():
    """For fewer images than the maximum for patches."""
    shown = {"input": images(24, 2), "edited": images(24, 3), "true": REAL}
    found = realism_of(shown)
    order = np.random.default_rng(0).permutation(24)
    again = realism_of({caption: array[order] for caption, array in shown.items()})
    for kind in KINDS:
        assert again[kind] == pytest.approx(found[kind], rel=1e-4, abs=1e-4)


def test_realism_caches_real_statistics(tmp_path):
    shown = {"input": REAL, "edited": images(24, 3), "true": REAL}
    found = realism_of(shown, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    source = Album(REAL)
    assert realism_of(shown, source, cache=tmp_path) == found
    assert list(tmp_path.iterdir()) == [file]


def test_other_real_images_are_the_target_without_ground_truth():
    """Half of the split's images, compared with the other half."""
    roles = ImageRoles(("edited",), "input")
    found = realism_of({"input": REAL[:12], "edited": images(12, 3)}, roles=roles)
    assert found["copy"]["fid_proxy_random_12_test"] == pytest.approx(0, abs=1e-6)
    assert found["target"]["fid_proxy_random_12_test"] > 0
    assert "ssim" not in found["generated"]
    few = realism_of({"input": REAL, "edited": images(24, 3)}, roles=roles)
    assert "target" not in few  # The split has no further images.


def test_alternatives_have_a_diversity_and_form_the_set():
    styles = {"style 1": images(8, 4), "style 2": images(8, 5)}
    found = realism_of(styles, roles=ImageRoles(tuple(styles), alternatives=True))
    assert found["generated"]["diversity_perceptual_random"] > 0.1
    assert "fid_proxy_random_16_test" in found["generated"]
    same = {"style 1": REAL[:8], "style 2": REAL[:8]}
    found = realism_of(same, roles=ImageRoles(tuple(same), alternatives=True))
    assert found["generated"]["diversity_perceptual_random"] == pytest.approx(0, abs=1e-6)


class Colours(tf.Module):
    """An embedding: the mean colour."""

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def embed(self, images):
        return {"vector": tf.reduce_mean(images, (1, 2))}


def test_identity_from_an_embedding_network(tmp_path):
    module = Colours()
    tf.saved_model.save(module, str(tmp_path / "net"), {"serving_default": module.embed})
    judges = Judges(embedding=str(tmp_path / "net"))
    shown = {"input": REAL, "edited": REAL / 2, "true": -REAL}
    found = realism_of(shown, judges=judges)
    assert found["generated"]["identity"] == pytest.approx(-1) and found["target"]["identity"] == 1
    found = realism_of(shown, roles=ImageRoles(("edited",), "input"), judges=judges)
    assert found["generated"]["identity"] == pytest.approx(1)


def test_result_is_empty_without_generated_images():
    assert realism_of({"input": REAL}, roles=ImageRoles()) == {}
    json.dumps(
        realism_of({"input": REAL[:3], "edited": REAL[:3]}, roles=ImageRoles(("edited",), "input"))
    )


def test_missing_weights_and_nan_images_are_reported():
    with pytest.raises(UserError, match="nowhere: no such file"):
        realism_of({}, judges=Judges(inception="nowhere"))
    broken = np.full_like(REAL, np.nan)
    with pytest.raises(UserError, match="NaN .*did the training diverge"):
        realism_of({"input": REAL, "edited": broken}, roles=ImageRoles(("edited",), "input"))
