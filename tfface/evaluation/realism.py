"""Realism metrics: similarity of generated images to real images and to the ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfface.data.base import Source
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.efficientnet import efficientnet, perceptual_efficientnet
from tfface.evaluation.features import (
    FeatureNetwork,
    classifier_features,
    inception,
    metric_name,
    random_features,
    real_statistics,
)
from tfface.evaluation.identity import Embedding
from tfface.evaluation.lpips import Lpips, lpips, perceptual_random
from tfface.metrics.bootstrap import (
    NO_ROLES,
    ImageRoles,
    Measurements,
    Observer,
    means,
    no_observer,
)
from tfface.metrics.distribution import (
    Patches,
    Statistics,
    frechet_distance,
    image_keys,
    kernel_distance,
    swd,
)
from tfface.metrics.images import diversity, levels, ms_ssim, ms_ssim_name, ssim
from tfface.metrics.tables import Row

KINDS = {
    "generated": "generated",
    "copy": "copy of the input image",
    "target": "ground truth or real",
}
"""Column titles. The target is the ground truth; where that is unknown, a set of other real images,
for which only set metrics are computed."""

_PATCHES_OF = 512
"""Maximum number of images in each set for SWD, which needs 300 kB for each."""

_LEAST = 4
"""Minimum number of images in each set; KID's subsets have half of them."""

_BATCH = 32
_SMALLEST = 32  # Smallest image side that the perceptual networks accept.


@dataclasses.dataclass(frozen=True)
class Judges:
    """Weights files of the networks for realism metrics.

    Without a file, a stand-in network is used and the metric has another name.

    Attributes:
        inception: InceptionV3 weights for FID and KID, see `tfface.evaluation.features.inception`;
            "": Keras downloads them; None: the features of the judge classifier, or of an untrained
            network.
        efficientnet: EfficientNet-Lite0 weights for FID and KID in place of InceptionV3, and for a
            distance like LPIPS, see `tfface.evaluation.efficientnet`; "": those of the installed
            package.
        lpips: VGG16 weights and LPIPS heads, see `tfface.evaluation.lpips.lpips`; None: the
            features of EfficientNet-Lite0 if it is given, or else of an untrained network.
        embedding: An embedding network for identity, see `Embedding`; None: the identity head of
            the judge classifier for built-in faces; no identity metric for other data.
        faces: Folder of the networks that judge edits of photographs, see
            `tfface.evaluation.photo_edits`; None: these are not judged.
    """

    inception: str | None = None
    efficientnet: str | None = None
    lpips: tuple[str, str] | None = None
    embedding: str | None = None
    faces: str | None = None


class _Set:
    """Feature statistics of a set of images, and patches of the first ones.

    Args:
        network: The feature network.
        most: Maximum number of images from which patches are taken.
    """

    def __init__(self, network: FeatureNetwork, most: int):
        self._network, self._most = network, most
        self.statistics = Statistics(network.model.output_shape[-1])
        self.patches, self.patched = Patches(), 0

    def add(self, images: Any) -> None:
        """Adds a batch, float32 [N,S,S,3] in [-1,1]."""
        stored = levels(images)
        self.statistics.add(self._network(stored), image_keys(stored))
        self.add_patches(stored)

    def add_patches(self, stored: np.ndarray) -> None:
        """Adds patches of uint8 images, up to the maximum number of images."""
        images = stored[: self._most - self.patched]
        if len(images):
            self.patches.add(images)
            self.patched += len(images)


class Realism:
    """An `Observer` that computes realism metrics of generated images.

    Args:
        judges: Weights files of the networks.
        source: The data set of the real images.
        split: Split of the data set.
        classifier: The judge classifier, if there is one.
        observer: Another observer to pass everything on to.

    Raises:
        UserError: A file is missing or invalid.
    """

    def __init__(
        self,
        judges: Judges,
        source: Source,
        split: str,
        classifier: Classifier | None = None,
        observer: Observer = no_observer,
    ):
        self._source, self._split, self._observer = source, split, observer
        size, self._measurements = source.data.size, Measurements()
        self._ms_ssim = ms_ssim_name(size)
        if judges.inception is not None:
            self._network = inception(judges.inception)
        elif judges.efficientnet is not None:
            self._network = efficientnet(judges.efficientnet)
        elif classifier is not None:
            self._network = classifier_features(classifier)
        else:
            self._network = random_features(size)
        self._distance: Lpips | None = None
        if judges.lpips:
            self._distance = lpips(size, *judges.lpips)
        elif judges.efficientnet is not None:
            self._distance = perceptual_efficientnet(judges.efficientnet)
        elif size >= _SMALLEST:
            self._distance = perceptual_random(size)
        self._similarity: Callable[[Any, Any], np.ndarray] | None = None
        if judges.embedding:
            self._similarity = Embedding(judges.embedding).similarity
        elif classifier is not None and classifier.has_identity:
            self._similarity = classifier.similarity
        available = source.count(split)
        self._patched = _PATCHES_OF if available is None else min(available, _PATCHES_OF)
        self._sets: dict[str, _Set] = {}
        self._has_alternatives = False

    def __call__(
        self,
        metric: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: ImageRoles = NO_ROLES,
    ) -> None:
        """Adds a batch of examples."""
        self._observer(metric, names, images, scores, roles)
        captions = {
            "generated": roles.generated,
            "copy": (roles.source,),
            "target": (roles.ground_truth,),
        }
        shown = {
            kind: [np.clip(np.asarray(images[name], np.float32), -1, 1) for name in of_kind]
            for kind, of_kind in captions.items()
            if all(of_kind)
        }
        if roles.alternatives and self._distance is not None:
            spread = diversity(np.stack(shown["generated"], 1), self._distance)
            rows = {f"diversity_{self._distance.name}": means(spread)}
            self._measurements.add("generated", rows)
        if roles.ground_truth:
            (truth,) = shown["target"]
            for kind, (batch, *_) in shown.items():
                self._measurements.add(kind, self._pairs(batch, truth), roles.per_person)
        elif roles.source and self._similarity:
            (source,) = shown["copy"]
            similarities = [self._similarity(batch, source) for batch in shown["generated"]]
            rows = {"identity": means(np.stack(similarities, 1))}
            self._measurements.add("generated", rows, roles.per_person)
        # If a method generates alternatives, they alone are the generated set.
        self._has_alternatives |= roles.alternatives
        if roles.alternatives or not self._has_alternatives:
            for kind, batches in shown.items():
                for batch in batches:
                    self._set(kind).add(batch)

    def _set(self, kind: str) -> _Set:
        return self._sets.setdefault(kind, _Set(self._network, self._patched))

    def _pairs(self, images: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Rows, for `Measurements.add`, of metrics that compare images with the ground truth."""
        rows = {"ssim": ssim(images, truth), self._ms_ssim: ms_ssim(images, truth)}
        if self._distance is not None:
            rows[self._distance.name] = self._distance(images, truth)
        if self._similarity is not None:
            rows["identity"] = self._similarity(images, truth)
        return {name: means(values) for name, values in rows.items()}

    def result(self, cache: Path | None) -> dict[str, Any]:
        """The metrics of all observed images.

        Args:
            cache: Cache folder for the statistics of real images; None: no cache.

        Returns:
            By kind in KINDS: where the ground truth is known `ssim`, `ms_ssim` (named by its number
            of scales), the perceptual distance, and `identity`, the cosine similarity to the person
            in the ground truth (where it is unknown, in the input); for the set FID, KID and its
            standard deviation, named by their protocol, and `swd`, also by level; for alternatives
            their diversity, the mean perceptual distance of two of them. `intervals`, see
            `Measurements.result`. Empty if there are no generated images.
        """
        if "generated" not in self._sets:
            return {}
        result, available = self._measurements.result(), self._source.count(self._split)
        number = self._sets["generated"].statistics.count
        count = number if available is None else min(number, available)
        if "target" not in self._sets and (available is None or available >= 2 * count):
            for images in self._images(count, count):
                self._set("target").add(images)
        statistics, patches = self._real(count, cache)
        for kind, images in self._sets.items():
            number = images.statistics.count
            if min(number, count) < _LEAST:
                continue
            metrics = result.setdefault(kind, {})
            fid, kid = (
                metric_name(name, self._network, number, self._split) for name in ("fid", "kid")
            )
            distance = kernel_distance(images.statistics, statistics)
            metrics[fid] = frechet_distance(images.statistics, statistics)
            metrics[kid], metrics[f"{kid}_std"] = distance["mean"], distance["std"]
            if images.patched == min(count, _PATCHES_OF):
                metrics |= swd(images.patches, patches)
        return result

    def _real(self, count: int, cache: Path | None) -> tuple[Statistics, Patches]:
        """Statistics and patches of the split's first images."""
        source = self._source
        arguments = {
            "data": dataclasses.asdict(source.data),
            "names": [*source.attributes, *source.classes],
            "split": self._split,
            "count": count,
        }
        drawn = _Set(self._network, self._patched)

        def images(count: int) -> Iterator[np.ndarray]:
            for batch in self._images(count):
                drawn.add_patches(levels(batch))
                yield batch

        statistics = real_statistics(cache, arguments, self._network, lambda: images(count))
        if not drawn.patched:  # The statistics came from the cache, which has no patches.
            for _ in images(min(count, self._patched)):
                pass
        return statistics, drawn.patches

    def _images(self, count: int, skipped: int = 0) -> Iterator[np.ndarray]:
        """Yields batches of `count` images of the split, after the first `skipped` ones."""
        first = -skipped
        for batch in self._source.batches(self._split, _BATCH):
            images = batch["image"].numpy()[max(-first, 0) : max(count - first, 0)]
            first += len(batch["image"])
            if len(images):
                yield images
            if first >= count:
                return


def table(result: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Column titles and rows of a table of `Realism.result`, under the key "realism"."""
    metrics = dict.fromkeys(metric for kind in KINDS for metric in result.get(kind, {}))
    return tuple(KINDS.values()), tuple(
        Row(metric, tuple(f"realism/{kind}/{metric}" for kind in KINDS), "digits")
        for metric in metrics
    )
