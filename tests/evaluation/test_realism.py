"""What judges images that a method made: sets, pairs with the truth, and several answers."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfface.config import Data
from tfface.data.base import Source
from tfface.errors import UserError
from tfface.evaluation.realism import KINDS, Judges, Realism
from tfface.evaluation.realism import table as table_of
from tfface.metrics.bootstrap import Roles
from tfface.metrics.tables import table

SIZE = 32


def images(count, seed=0):
    """Smooth images float32 [N,S,S,3] in [-1,1]."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)
    return tf.image.resize(coarse, (SIZE, SIZE), "bilinear").numpy()


class Album(Source):
    """Images that are there, without anything else."""

    def __init__(self, images):
        super().__init__(Data(size=SIZE))
        self.images = images

    def count(self, split):
        return len(self.images)

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        return tf.data.Dataset.from_tensor_slices({"image": self.images}).batch(batch_size)


REAL = images(24)
EDITED = Roles(("edited",), "input", "true")


def judged(shown, source=None, roles=EDITED, cache=None, judges=None):
    """The figures of images by caption, shown some at a time."""
    watched = []
    likeness = Realism(
        judges or Judges(),
        source or Album(REAL),
        "test",
        watch=lambda *given: watched.append(given),
    )
    count = len(next(iter(shown.values())))
    for start in range(0, count, 5):
        some = {caption: images[start : start + 5] for caption, images in shown.items()}
        names = [""] * len(next(iter(some.values())))
        likeness("error", names, some, np.zeros(len(names)), roles)
    assert sum(len(names) for _, names, *_ in watched) == count
    return likeness.result(cache)


def test_the_truth_is_most_like_itself_and_the_real_images():
    noise = np.random.default_rng(1).normal(0, 0.4, REAL.shape)
    noisy = np.float32(REAL + noise)  # Partly beyond the range: it is cut, as in a file.
    found = judged({"input": images(24, 2), "edited": noisy, "true": REAL})
    assert set(KINDS) < set(found) and found["target"]["ssim"] == pytest.approx(1)
    assert found["copy"]["ssim"] < found["made"]["ssim"] < 1
    assert found["target"]["perceptual_random"] == pytest.approx(0, abs=1e-6)
    assert found["target"]["fid_proxy_random_24_test"] == pytest.approx(0, abs=1e-6)
    assert found["made"]["fid_proxy_random_24_test"] > found["copy"]["fid_proxy_random_24_test"] > 0
    assert found["target"]["swd"] == 0 < found["made"]["swd"]
    low, high = found["intervals"]["made"]["ssim"]
    assert low < found["made"]["ssim"] < high
    assert "identity" not in found["made"]  # Nobody tells people apart here.
    cells = table(table_of(found)[1], {"likeness": found})
    assert ["ssim", f"{found['made']['ssim']:.4g}"] in [row[:2] for row in cells]


def test_the_order_of_the_images_does_not_matter():
    """They are fewer than those whose patches are taken."""
    shown = {"input": images(24, 2), "edited": images(24, 3), "true": REAL}
    found = judged(shown)
    order = np.random.default_rng(0).permutation(24)
    again = judged({caption: array[order] for caption, array in shown.items()})
    for kind in KINDS:
        assert again[kind] == pytest.approx(found[kind], rel=1e-4, abs=1e-4)


def test_real_statistics_are_kept(tmp_path):
    shown = {"input": REAL, "edited": images(24, 3), "true": REAL}
    found = judged(shown, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    source = Album(REAL)
    assert judged(shown, source, cache=tmp_path) == found
    assert list(tmp_path.iterdir()) == [file]


def test_without_the_truth_other_real_images_are_the_target():
    """A set of half of the split's images, against the other half."""
    roles = Roles(("edited",), "input")
    found = judged({"input": REAL[:12], "edited": images(12, 3)}, roles=roles)
    assert found["copy"]["fid_proxy_random_12_test"] == pytest.approx(0, abs=1e-6)
    assert found["target"]["fid_proxy_random_12_test"] > 0
    assert "ssim" not in found["made"]
    few = judged({"input": REAL, "edited": images(24, 3)}, roles=roles)
    assert "target" not in few  # The split has no more.


def test_several_answers_are_told_apart_and_are_the_set():
    answers = {"style 1": images(8, 4), "style 2": images(8, 5)}
    found = judged(answers, roles=Roles(tuple(answers), answers=True))
    assert found["made"]["diversity_perceptual_random"] > 0.1
    assert "fid_proxy_random_16_test" in found["made"]
    alike = {"style 1": REAL[:8], "style 2": REAL[:8]}
    found = judged(alike, roles=Roles(tuple(alike), answers=True))
    assert found["made"]["diversity_perceptual_random"] == pytest.approx(0, abs=1e-6)


class Colours(tf.Module):
    """An embedding: the mean colour."""

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)])
    def embed(self, images):
        return {"vector": tf.reduce_mean(images, (1, 2))}


def test_identity_by_an_embedding(tmp_path):
    module = Colours()
    tf.saved_model.save(module, str(tmp_path / "net"), {"serving_default": module.embed})
    judges = Judges(embedding=str(tmp_path / "net"))
    shown = {"input": REAL, "edited": REAL / 2, "true": -REAL}
    found = judged(shown, judges=judges)
    assert found["made"]["identity"] == pytest.approx(-1) and found["target"]["identity"] == 1
    found = judged(shown, roles=Roles(("edited",), "input"), judges=judges)
    assert found["made"]["identity"] == pytest.approx(1)


def test_nothing_made_nothing_judged():
    assert judged({"input": REAL}, roles=Roles()) == {}
    json.dumps(judged({"input": REAL[:3], "edited": REAL[:3]}, roles=Roles(("edited",), "input")))


def test_mistakes_are_told():
    with pytest.raises(UserError, match="nowhere: no such file"):
        judged({}, judges=Judges(inception="nowhere"))
    broken = np.full_like(REAL, np.nan)
    with pytest.raises(UserError, match="no finite numbers: did the training diverge"):
        judged({"input": REAL, "edited": broken}, roles=Roles(("edited",), "input"))
