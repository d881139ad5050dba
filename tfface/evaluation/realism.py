"""How like real images, and like the true ones, those are that a method made: FID to identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfface.data.base import Source
from tfface.evaluation.classifier import Classifier
from tfface.evaluation.features import (
    FeatureNetwork,
    classifier_features,
    inception,
    measure_name,
    random_features,
    real_statistics,
)
from tfface.evaluation.identity import Embedding
from tfface.evaluation.lpips import Lpips, lpips, perceptual_random
from tfface.metrics.bootstrap import NOTHING_MADE, Roles, Tally, Watch, means, unwatched
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

KINDS = {"made": "made", "copy": "copy of the input", "target": "real"}
"""What is judged: what was made, what it was made of, and what it should be; as a set, other real
images where nobody knows that."""

_PATCHES_OF = 512
"""Images of each set, at most, that SWD compares: 300 kB each."""

_LEAST = 4
"""Images of each set, at least, that are compared: KID's subsets are half of them."""

_BATCH = 32
_SMALLEST = 32  # Side of images that the perceptual networks take.


@dataclasses.dataclass(frozen=True)
class Judges:
    """Files of networks that judge images; where one is missing, a stand-in with another name.

    Attributes:
        inception: InceptionV3's weights for FID and KID, as of
            `tfface.evaluation.features.inception`; "": Keras downloads them; None: the classifier
            of expressions and attributes, or a network that has learnt nothing.
        lpips: VGG16's weights and those of LPIPS's heads, as of `tfface.evaluation.lpips.lpips`;
            None: a network that has learnt nothing.
        embedding: A network that tells people apart, as of `Embedding`; None: on built-in faces the
            classifier, which knows what they are made of; of others identity is not measured.
    """

    inception: str | None = None
    lpips: tuple[str, str] | None = None
    embedding: str | None = None


class _Set:
    """Features of a set of images, and patches of the first ones.

    Args:
        network: Whose features.
        most: Images, at most, whose patches are taken.
    """

    def __init__(self, network: FeatureNetwork, most: int):
        self._network, self._most = network, most
        self.statistics = Statistics(network.model.output_shape[-1])
        self.patches, self.patched = Patches(), 0

    def add(self, images: Any) -> None:
        """Counts some."""
        stored = levels(images)
        self.statistics.add(self._network(stored), image_keys(stored))
        self.add_patches(stored)

    def add_patches(self, stored: np.ndarray) -> None:
        """Takes patches of the first images, uint8."""
        some = stored[: self._most - self.patched]
        if len(some):
            self.patches.add(some)
            self.patched += len(some)


class Realism:
    """A `Watch` that judges as images what a method made.

    Args:
        judges: Files of networks.
        source: The data set that has the real images.
        split: Of it.
        classifier: Of expressions and attributes, if there is one.
        watch: Is shown the same.

    Raises:
        UserError: A file is missing or is something else.
    """

    def __init__(
        self,
        judges: Judges,
        source: Source,
        split: str,
        classifier: Classifier | None = None,
        watch: Watch = unwatched,
    ):
        self._source, self._split, self._watch = source, split, watch
        size, self._tally = source.data.size, Tally()
        self._ms_ssim = ms_ssim_name(size)
        if judges.inception is not None:
            self._network = inception(judges.inception)
        elif classifier is not None:
            self._network = classifier_features(classifier)
        else:
            self._network = random_features(size)
        self._distance: Lpips | None = None
        if judges.lpips:
            self._distance = lpips(size, *judges.lpips)
        elif size >= _SMALLEST:
            self._distance = perceptual_random(size)
        self._same: Callable[[Any, Any], np.ndarray] | None = None
        if judges.embedding:
            self._same = Embedding(judges.embedding).similarity
        elif classifier is not None and classifier.knows_people:
            self._same = classifier.similarity
        there = source.count(split)
        self._patched = _PATCHES_OF if there is None else min(there, _PATCHES_OF)
        self._sets: dict[str, _Set] = {}
        self._answers = False

    def __call__(
        self,
        measure: str,
        names: list[str],
        images: dict[str, Any],
        scores: np.ndarray,
        roles: Roles = NOTHING_MADE,
    ) -> None:
        """Judges some examples."""
        self._watch(measure, names, images, scores, roles)
        captions = {"made": roles.made, "copy": (roles.source,), "target": (roles.truth,)}
        shown = {
            kind: [np.clip(np.asarray(images[name], np.float32), -1, 1) for name in some]
            for kind, some in captions.items()
            if all(some)
        }
        if roles.answers and self._distance is not None:
            spread = diversity(np.stack(shown["made"], 1), self._distance)
            self._tally.add("made", {f"diversity_{self._distance.name}": means(spread)})
        if roles.truth:
            (truth,) = shown["target"]
            for kind, (some, *_) in shown.items():
                self._tally.add(kind, self._pairs(some, truth), roles.per)
        elif roles.source and self._same:
            (source,) = shown["copy"]
            kept = np.stack([self._same(made, source) for made in shown["made"]], 1)
            self._tally.add("made", {"identity": means(kept)}, roles.per)
        # One that gives several answers is judged as a set by these alone.
        self._answers |= roles.answers
        if roles.answers or not self._answers:
            for kind, some in shown.items():
                for made in some:
                    self._set(kind).add(made)

    def _set(self, kind: str) -> _Set:
        return self._sets.setdefault(kind, _Set(self._network, self._patched))

    def _pairs(self, made: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Rows, for `Tally.add`, of what compares images with the true ones."""
        rows = {"ssim": ssim(made, truth), self._ms_ssim: ms_ssim(made, truth)}
        if self._distance is not None:
            rows[self._distance.name] = self._distance(made, truth)
        if self._same is not None:
            rows["identity"] = self._same(made, truth)
        return {name: means(values) for name, values in rows.items()}

    def result(self, cache: Path | None) -> dict[str, Any]:
        """The figures of what has been shown.

        Args:
            cache: Folder in which the statistics of real images are kept; None: they are not.

        Returns:
            By kind, of KINDS: where the truth is known `ssim`, `ms_ssim` (named by its scales), the
            perceptual distance, and `identity`, the cosine of what is known of the two persons; as
            a set FID, KID and its deviation, named by their protocol, and `swd`, with those of its
            levels; of several answers their diversity, the mean perceptual distance of two of them.
            `intervals` as of `Tally.result`. Empty if nothing was made.
        """
        if "made" not in self._sets:
            return {}
        found, there = self._tally.result(), self._source.count(self._split)
        number = self._sets["made"].statistics.count
        count = number if there is None else min(number, there)
        if "target" not in self._sets and (there is None or there >= 2 * count):
            for images in self._images(count, count):
                self._set("target").add(images)
        statistics, patches = self._real(count, cache)
        for kind, some in self._sets.items():
            number = some.statistics.count
            if min(number, count) < _LEAST:
                continue
            known = found.setdefault(kind, {})
            fid, kid = (
                measure_name(name, self._network, number, self._split) for name in ("fid", "kid")
            )
            distance = kernel_distance(some.statistics, statistics)
            known[fid] = frechet_distance(some.statistics, statistics)
            known[kid], known[f"{kid}_std"] = distance["mean"], distance["std"]
            if some.patched == min(count, _PATCHES_OF):
                known |= swd(some.patches, patches)
        return found

    def _real(self, count: int, cache: Path | None) -> tuple[Statistics, Patches]:
        """Of the split's first images."""
        source = self._source
        arguments = {
            "data": dataclasses.asdict(source.data),
            "names": [*source.attributes, *source.classes],
            "split": self._split,
            "count": count,
        }
        drawn = _Set(self._network, self._patched)

        def images(count: int) -> Iterator[np.ndarray]:
            for some in self._images(count):
                drawn.add_patches(levels(some))
                yield some

        made = real_statistics(cache, arguments, self._network, lambda: images(count))
        if not drawn.patched:  # The statistics were kept, patches are not.
            for _ in images(min(count, self._patched)):
                pass
        return made, drawn.patches

    def _images(self, count: int, skipped: int = 0) -> Iterator[np.ndarray]:
        """So many images of the split, in batches, after those that are skipped."""
        first = -skipped
        for batch in self._source.batches(self._split, _BATCH):
            some = batch["image"].numpy()[max(-first, 0) : max(count - first, 0)]
            first += len(batch["image"])
            if len(some):
                yield some
            if first >= count:
                return


def table(found: dict[str, Any]) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """The titles and rows of a table of `Realism.result`, which is the figure "likeness"."""
    measures = dict.fromkeys(measure for kind in KINDS for measure in found.get(kind, {}))
    return tuple(KINDS.values()), tuple(
        Row(measure, tuple(f"likeness/{kind}/{measure}" for kind in KINDS), "digits")
        for measure in measures
    )
