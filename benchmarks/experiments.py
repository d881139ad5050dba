"""The experiments of `benchmarks/claims.py`: claims of the abstracts, and how they are tested.

All trainings are short, on built-in faces at 32 px, so that several seeds fit into minutes. Claims
about what a trained model does are measured on the trainings of another claim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tfface.metrics.bootstrap import NO_ROLES, ImageRoles, image_errors, ratio

if TYPE_CHECKING:
    from tfface.methods.trained import Trained

PEOPLE = 64
_FIRST = 1000
"""Seed of the held-out people of measures without an `Evaluation`."""

Images = dict[str, np.ndarray]
Value = Callable[[Images, ImageRoles], np.ndarray | None]
"""From the images and roles that an `Observer` receives to a value per example; None: not these."""
Measure = Callable[["Trained", Path], tuple[np.ndarray, float]]
"""From a trained side and the folder of the judges to a value per person, where lower is better,
and the value that is shown beside their mean."""


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        name: What it is, for the table.
        options: Options that differ from the other side.
        patch: Replaces parts of the package while networks are built and run.
        runs: "CLAIM/SIDE" of the same method, whose trainings are used; "": its own.
        measure: Instead of the claim's.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    runs: str = ""
    measure: Measure | None = None


@dataclass(frozen=True)
class Claim:
    """A claim of an abstract, and a comparison that tests it.

    Attributes:
        method: The method.
        name: Name of the claim, unique within the method.
        quote: The claim, in the words of the abstract.
        experiment: What is compared, for readers.
        proposed: What the paper proposes.
        control: The same without it.
        unit: What the value is.
        also: What is shown beside it, such as whether the edit succeeded at all; copies of the
            input must not win.
        measure: How both sides are measured, unless they say so themselves.
        options: Options of both sides, on top of the preset `demo`.
    """

    method: str
    name: str
    quote: str
    experiment: str
    proposed: Variant
    control: Variant
    unit: str
    also: str
    measure: Measure | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


# Measures by the evaluation of a method.


def observed(value: Value, unit: str, also: str) -> dict[str, Any]:
    """`unit`, `also` and `measure` of a claim: a value of each image that an evaluation shows.

    Args:
        value: From images to their values.
        unit: What the value is.
        also: Metric of the evaluation that is shown beside it.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        from tfface.evaluation import flat, measure

        people: list[float] = []

        def observe(metric, names, images, scores, roles=NO_ROLES):
            found = value(images, roles)
            if found is not None:
                people.extend(found.reshape(-1, roles.per_person).mean(1).tolist())

        metrics = measure(trained, count=PEOPLE, cache=cache, observer=observe)
        return np.array(people), flat(metrics)[also]

    return {"unit": unit, "also": also, "measure": measured}


def change_outside(images: Images, roles: ImageRoles) -> np.ndarray | None:
    """Mean absolute change, in percent of the value range, of pixels that the edit should keep.

    These are the pixels that are equal in the input and in the ground truth.
    """
    if not (roles.source and roles.ground_truth):
        return None
    source, truth = images[roles.source], images[roles.ground_truth]
    differs = np.any(np.abs(truth - source) >= 1e-6, -1)
    changes = image_errors(images[roles.generated[0]], source, differs)
    return 100.0 * ratio(changes["error_outside"])


def error(images: Images, roles: ImageRoles) -> np.ndarray | None:
    """Mean absolute difference from the ground truth, in percent of the value range."""
    if not (roles.generated and roles.ground_truth):
        return None
    errors = image_errors(images[roles.generated[0]], images[roles.ground_truth])
    return 100.0 * ratio(errors["error"])


def lost_texture(images: Images, roles: ImageRoles) -> np.ndarray | None:
    """By how many percent the fine detail is weaker or stronger than the ground truth's.

    Fine detail is the mean absolute difference of a pixel from the mean of its 3x3 neighbours.
    """
    if not (roles.generated and roles.ground_truth):
        return None
    from scipy.ndimage import uniform_filter

    def detail(faces):
        return np.abs(faces - uniform_filter(faces, (0, 3, 3, 0))).mean((1, 2, 3))

    return 100.0 * np.abs(
        detail(images[roles.generated[0]]) / detail(images[roles.ground_truth]) - 1.0
    )


# Measures of what a trained model does.


def _drawn(factors: dict, size: int) -> np.ndarray:
    from tfface.data.synthetic import render

    return render(factors, size)["image"].numpy()


def _difference(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean absolute differences at pixels bool [N,S,S], in percent of the range; 0 without any."""
    return 100.0 * np.nan_to_num(ratio(image_errors(a, b, where)["error_inside"]))


def _transfer(trained: Trained, source: np.ndarray, reference: np.ndarray, names) -> np.ndarray:
    """ELEGANT's edit of images, with attributes of the same references."""
    import tensorflow as tf

    indices = [trained.method.labels.index(name) for name in names]
    count = len(source), len(names)
    return trained.method.blend(
        trained.nets,
        tf.constant(source),
        tf.repeat(tf.constant(reference)[:, None], len(names), 1),
        tf.tile(tf.constant(indices)[None], [len(source), 1]),
        tf.ones(count),
    ).numpy()


def of_reference(own: bool) -> Measure:
    """Error of glasses, to those of the reference, taken from it or (not `own`) from another.

    Where the glasses of both references differ. Beside it, how much the results of two references
    differ there, relative to the ground truth.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        from tfface.data.synthetic import with_attribute, with_factors
        from tfface.evaluation.synthetic_truth import held_out

        name, names, size = "Eyeglasses", trained.method.labels, trained.method.config.data.size
        person = held_out(PEOPLE, _FIRST, names, (name, False))
        # The reference, and another with the other kind of glasses.
        first = held_out(PEOPLE, _FIRST + 1, names, (name, True))
        others = {key: 1.0 - first[key] for key in ("glasses_shade", "glasses_round")}
        second = with_factors(held_out(PEOPLE, _FIRST + 2, names, (name, True)), **others)
        image = _drawn(person, size)
        results, truths = [], []
        for reference in (first, second):
            kind = {key: reference[key] for key in others}
            truths.append(_drawn(with_factors(with_attribute(person, name, True), **kind), size))
            results.append(_transfer(trained, image, _drawn(reference, size), [name]))
        where = np.abs(truths[0] - truths[1]).max(-1) > 0.1
        apart = [_difference(*pair, where).mean() for pair in (results, truths)]
        result = results[0 if own else 1]
        return _difference(result, truths[0], where), float(apart[0] / apart[1])

    return measured


def several(edited: bool) -> Measure:
    """Error after all attributes were exchanged at once, or (not `edited`) of the input.

    Beside it, the share of faces in which the judge sees the asked value of each attribute.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        from tfface.evaluation import evaluation_of
        from tfface.evaluation.attributes import without_and_with_all

        names, size = trained.method.labels, trained.method.config.data.size
        people = without_and_with_all(names, PEOPLE, _FIRST + 3)
        image, other, target = (_drawn(faces, size) for faces in people)
        result = _transfer(trained, image, other, names) if edited else image
        judge = evaluation_of(trained).judge(cache)
        seen = judge.attributes(result)[:, [judge.names.index(name) for name in names]]
        everywhere = np.ones(image.shape[:3], bool)
        return _difference(result, target, everywhere), float(seen.all(1).mean())

    return measured


def other_parts(exchanged: bool) -> Measure:
    """Change of the parts of other attributes by an exchange, or (not `exchanged`) by their own.

    Of glasses and bangs, which lie apart; without the pixels that both change. Beside it, the
    change that the ground truth of the exchange has there.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        from tfface.data.synthetic import with_attribute
        from tfface.evaluation.synthetic_truth import held_out

        pair, names = ("Eyeglasses", "Bangs"), trained.method.labels
        size = trained.method.config.data.size
        person, reference = (held_out(PEOPLE, _FIRST + i, names) for i in (5, 6))
        for name in pair:
            person, reference = (
                with_attribute(faces, name, value)
                for faces, value in ((person, False), (reference, True))
            )
        image, other = _drawn(person, size), _drawn(reference, size)
        truths = [_drawn(with_attribute(person, name, True), size) for name in pair]
        parts = [np.abs(truth - image).max(-1) > 0.02 for truth in truths]
        results = [_transfer(trained, image, other, [name]) for name in pair]
        values, expected = [], []
        for own in (0, 1):
            part = parts[1 - own] & ~parts[own]
            by = own if exchanged else 1 - own
            values.append(_difference(results[by], image, part))
            expected.append(_difference(truths[by], image, part).mean())
        return np.mean(values, 0), float(np.mean(expected))

    return measured


def map_edit(outside: bool) -> Measure:
    """Change of a face when the hair of its label map is replaced, outside it or inside.

    Inside are the pixels whose class changes. The style is the same. Beside it, the share of these
    pixels.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        import tensorflow as tf

        from tfface.data.synthetic import render, with_factors
        from tfface.evaluation.synthetic_truth import held_out

        size, method, nets = trained.method.config.data.size, trained.method, trained.nets
        person, other = (held_out(PEOPLE, _FIRST + i) for i in (7, 8))
        hair = {key: other[key] for key in ("hair_style", "hair_volume", "hair_part", "bangs")}
        maps = [
            render(faces, size, ("label_map",))["label_map"]
            for faces in (person, with_factors(person, **hair))
        ]
        styles = method.style_of_seeds(nets, tf.range(PEOPLE, dtype=tf.int64))
        faces = [method.generate(nets, labels, styles).numpy() for labels in maps]
        changed = (maps[0] != maps[1]).numpy()
        return _difference(*faces, ~changed if outside else changed), float(changed.mean())

    return measured


def another_map(own: bool) -> Measure:
    """Share, in percent, of the pixels of a face whose class is not that of its label map.

    Or (not `own`) of the next person's map. By the judge that segments faces; over three styles.
    Beside it, how much two styles differ, relative to the colours of real people.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        import tensorflow as tf

        from tfface.data.synthetic import render, with_factors
        from tfface.evaluation import evaluation_of
        from tfface.evaluation.synthetic_truth import held_out

        size, method, nets = trained.method.config.data.size, trained.method, trained.nets
        person = held_out(PEOPLE, _FIRST)
        labels = render(person, size, ("label_map",))["label_map"]
        styles = [
            method.style_of_seeds(nets, tf.fill([PEOPLE], tf.constant(seed, tf.int64)))
            for seed in (1, 2, 3)
        ]
        faces = [method.generate(nets, labels, style).numpy() for style in styles]
        real = [
            _drawn(with_factors(person, colours=held_out(PEOPLE, _FIRST + seed)), size)
            for seed in (1, 2, 3)
        ]
        everywhere = np.ones(labels.shape, bool)
        spread = [
            np.mean([_difference(a, b, everywhere) for a, b in combinations(kind, 2)])
            for kind in (faces, real)
        ]
        judge = evaluation_of(trained).judge(cache)
        compared = labels.numpy() if own else np.roll(labels.numpy(), 1, 0)
        wrong = [(judge.label_maps(images) != compared).mean((1, 2)) for images in faces]
        return 100.0 * np.mean(wrong, 0), float(spread[0] / spread[1])

    return measured


def other_class(aligned: bool) -> Measure:
    """Share, in percent, of the aligned pixels whose class is not the condition's.

    Or (not `aligned`) of all pixels of the exemplar, which is what features of the whole image
    offer every pixel. Beside it, the share for eyes, brows, mouth and lips.
    """

    def measured(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
        from tfface.data.label_maps import CLASSES_19
        from tfface.methods.domain_alignment.losses import shares

        method = trained.method
        source = method.evaluation_source()
        batch = next(iter(source.exemplars("test", PEOPLE, seed=_FIRST)))
        condition = method.encode(method.condition(batch))
        result = method.generate(
            trained.nets, condition, batch["exemplar"], batch["exemplar_label_map"]
        )
        wanted = shares(batch["label_map"]).numpy()
        if aligned:
            offered = result["warped_labels"].numpy()
        else:
            offered = shares(batch["exemplar_label_map"]).numpy().mean((1, 2), keepdims=True)
        wrong = 100.0 * (1.0 - (wanted * offered).sum(-1))
        small = wanted[..., [CLASSES_19.index(name) for name in _PARTS]].sum(-1)
        return wrong.mean((1, 2)), float((wrong * small).sum() / small.sum())

    return measured


_PARTS = ("l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip")


def wrong_segments(trained: Trained, cache: Path) -> tuple[np.ndarray, float]:
    """100 % minus the mean IoU of the classes of a face; beside it, the edits' accuracy."""
    from tfface.data.synthetic import render
    from tfface.evaluation import flat, measure
    from tfface.evaluation.synthetic_truth import held_out
    from tfface.metrics.segmentation import confusions, summary

    size = trained.method.config.data.size
    drawn = render(held_out(PEOPLE, _FIRST), size, ("image", "label_map"))
    truth = drawn["label_map"].numpy()
    found = trained.method.segment(trained.nets, drawn["image"]).numpy().argmax(-1)
    iou = summary(confusions(found, truth))["miou"]
    metrics = flat(measure(trained, count=PEOPLE, cache=cache))
    return 100.0 * (1.0 - iou), metrics["edited/accuracy"]


# Changes of the networks and losses.


def _vanilla_block():
    """SARGAN with a constant attention of 1, which leaves a vanilla residual block."""
    import keras

    from tfface.methods.sargan import networks

    def block(x, attention_width, name="sarb"):
        residual = networks._reflect_conv(x, x.shape[-1], f"{name}_conv1")
        residual = networks._reflect_conv(residual, x.shape[-1], f"{name}_conv2", relu=False)
        ones = keras.layers.Conv2D(
            1,
            1,
            kernel_initializer="zeros",
            bias_initializer="ones",
            trainable=False,
            name="attention",
        )(residual)
        residual = keras.layers.Multiply(name=f"{name}_attend")([residual, ones])
        return keras.layers.Add(name=f"{name}_add")([x, residual])

    return mock.patch.object(networks, "_sarb", block)


def _one_scale():
    """SARGAN whose attention comes from two convolutions at one scale."""
    from tfface.methods.sargan import networks

    def convolutions(x, width, level, name):
        x = networks._reflect_conv(x, width, f"{name}_b1_{level}")
        return networks._reflect_conv(x, width, f"{name}_b3_{level}")

    return mock.patch.object(networks, "_sedn", convolutions)


def _without_input():
    """SARGAN whose generator returns the image instead of a residual."""
    import keras

    from tfface.methods.sargan import networks

    plain = keras.layers.Add

    def add(*args, name, **kwargs):
        if name != "edited":
            return plain(*args, name=name, **kwargs)
        return lambda inputs: keras.layers.Identity(name=name)(inputs[1])

    return mock.patch.object(networks.keras.layers, "Add", add)


def _whole_image():
    """ELEGANT whose decoder returns the image instead of a residual."""
    import tensorflow as tf

    from tfface.methods.elegant import method

    def decoded(images, outputs):
        return tf.clip_by_value(outputs, -1.0, 1.0)

    return mock.patch.object(method, "_add_residual", decoded)


def _small_discriminator():
    """ELEGANT whose full-size discriminator sees nothing."""
    from tfface.methods.elegant import losses

    plain = losses.discriminate

    def discriminate(nets, images, labels):
        logits = plain(nets, images, labels)
        return {**logits, "disc1": [0.0 * x for x in logits["disc1"]]}

    return mock.patch.object(losses, "discriminate", discriminate)


def _addition():
    """domain_alignment that adds both features with equal weights."""
    from tfface.layers import AdaptiveFusion
    from tfface.methods.domain_alignment import networks

    class Equal(AdaptiveFusion):
        # Keras matches the arguments' names with those of `build`.
        def call(self, condition, aligned):
            return 0.0 * super().call(condition, aligned) + 0.5

    return mock.patch.object(networks, "AdaptiveFusion", Equal)


def _boxes():
    """seg_hierarchical with the bounding boxes of its masks instead of the masks."""
    import tensorflow as tf

    from tfface.methods.seg_hierarchical import method

    grow = method.grow_masks

    def boxes(masks, *windows):
        inside = tf.cast(grow(masks, *windows) > 0.5, tf.float32)
        rows, columns = (tf.reduce_max(inside, axis, keepdims=True) for axis in (2, 1))
        return rows * columns

    return mock.patch.object(method, "grow_masks", boxes)


def _global_alone():
    """seg_hierarchical whose regions are empty, so that the global result is the output."""
    import tensorflow as tf

    from tfface.methods.seg_hierarchical.method import SegHierarchical

    def nothing(self, probabilities):
        return tf.zeros_like(probabilities[..., : len(self.config.regions)])

    return mock.patch.object(SegHierarchical, "grown", nothing)


_EXPRESSIONS = {
    "data.size": 32,
    "classifier.noise": 0.1,
    "classifier.attack": 0.5,
    "train.ema_half_life": 0.4,
}
_SARGAN = {
    **_EXPRESSIONS,
    "classifier.steps": 900,
    "train.steps": 3000,
    "adam.decay_start": 2200,
}
_ELEGANT = {
    "data.size": 32,
    "width": 16,
    "train.steps": 1500,
    "adam.decay_start": 1000,
    "train.ema_half_life": 0.5,
}
_DEMO_ELEGANT = {
    **_ELEGANT,
    "discriminator.width": 16,
    "discriminator.attributes_first": 300,
}
_SCALES = {
    **_ELEGANT,
    "discriminator.kind": "conditional",
    "discriminator.attributes_first": 0,
    "weights.change": 0.5,
    "adam.learning_rate": 5.0e-4,
}
_ALIGNMENT = {
    "data.size": 32,
    "fusion_side": 8,
    "region_balance": 0.3,
    "weights.pixel": 10.0,
    "train.steps": 700,
    "adam.decay_start": 300,
    "train.ema_half_life": 0.4,
}
_SEGMENTS = {
    **_EXPRESSIONS,
    "window": 0,
    "local_discriminator.layers": 4,
    "weights.local": 0.5,
    "weights.change": 6.0,
    "segmenter.steps": 300,
    "classifier.steps": 600,
    "gan_steps": 2400,
    "train.steps": 2800,
    "adam.decay_start": 1900,
}
_JOINT = {
    **_SEGMENTS,
    "classifier.steps": 300,
    "gan_steps": 900,
    "train.steps": 1600,
    "adam.decay_start": 1000,
}

_OUTSIDE = observed(change_outside, "change outside the parts that move", "edited/accuracy")
_EXPRESSION_ERROR = observed(error, "error to the ground truth", "edited/accuracy")
_ATTRIBUTE_ERROR = observed(error, "error to the ground truth", "edited/right")
_EXEMPLAR_ERROR = observed(error, "error to the ground truth", "generated/psnr")

CLAIMS = (
    Claim(
        "sargan",
        "attention",
        "spatial attention-based residual block instead of vanilla residual blocks to properly "
        "capture the expression-related features to be changed while keeping the other features "
        "unchanged",
        "The generator with its attention block, and with a vanilla residual block of the same two "
        "convolutions in its place.",
        Variant("attention"),
        Variant("vanilla block", patch=_vanilla_block),
        **_OUTSIDE,
        options=_SARGAN,
    ),
    Claim(
        "sargan",
        "scales",
        "we exploited a symmetric encoder-decoder network to attend facial features at multiple "
        "scales",
        "The attention map from an encoder-decoder, and from two convolutions at one scale.",
        Variant("several scales", runs="attention/proposed"),
        Variant("one scale", patch=_one_scale),
        **_OUTSIDE,
        options=_SARGAN,
    ),
    Claim(
        "sargan",
        "residual",
        "a residual connection which relieves the generator of pressure to generate the input face "
        "image",
        "The generator adds its output to the input, or returns it: error to the ground truth.",
        Variant("added to the input", runs="attention/proposed"),
        Variant("the output itself", {"residual_init": 1.0}, _without_input),
        **_EXPRESSION_ERROR,
        options=_SARGAN,
    ),
    Claim(
        "elegant",
        "residual",
        "our model learns the residual images so as to facilitate training on higher resolution "
        "images",
        "The decoder's output is added to the image, or is the image. Both with the paper's "
        "reconstruction loss and without the subtraction of the unchanged code.",
        Variant("residual"),
        Variant("whole image", patch=_whole_image),
        **_ATTRIBUTE_ERROR,
        options={
            **_DEMO_ELEGANT,
            "subtract_unchanged": False,
            "change_threshold": 0.0,
            "weights.reconstruction": 5.0,
        },
    ),
    Claim(
        "elegant",
        "exemplar",
        "transfer exactly the same type of attributes from one image to another by exchanging "
        "certain part of their encodings",
        "Glasses from a reference, compared with the glasses of that reference (drawn on the same "
        "person) where they differ from those of another reference; the control takes them from "
        "the other one. Beside the error: the difference of the results of both references, as a "
        "share of the difference that the ground truth has.",
        Variant("from the reference", measure=of_reference(True)),
        Variant("from another", runs="exemplar/proposed", measure=of_reference(False)),
        "error to the reference's glasses",
        "difference of two results",
        options=_DEMO_ELEGANT,
    ),
    Claim(
        "elegant",
        "several",
        "which enables us to manipulate several attributes simultaneously",
        "Glasses, a smile and bangs of one reference in one pass, and the input as it was.",
        Variant("all at once", runs="exemplar/proposed", measure=several(True)),
        Variant("input", runs="exemplar/proposed", measure=several(False)),
        "error to the ground truth",
        "share with all three",
    ),
    Claim(
        "elegant",
        "others",
        "All the attributes are encoded in a disentangled manner in the latent space",
        "Exchanging glasses or bangs: how much the part of the other one changes, and how much it "
        "changes when it is exchanged itself.",
        Variant("the other's part", runs="exemplar/proposed", measure=other_parts(True)),
        Variant("by its own exchange", runs="exemplar/proposed", measure=other_parts(False)),
        "change of the part",
        "the same in the ground truth, %",
    ),
    Claim(
        "elegant",
        "scales_large",
        "With the help of multi-scale discriminators for adversarial training, it can even "
        "generate high-quality images with finer details and less artifacts",
        "The paper's two conditional discriminators, of full and half size, and the full-size one "
        "alone.",
        Variant("both sizes"),
        Variant("full size alone", {"weights.half_size": 0.0}),
        **_ATTRIBUTE_ERROR,
        options=_SCALES,
    ),
    Claim(
        "elegant",
        "scales_small",
        "With the help of multi-scale discriminators for adversarial training, it can even "
        "generate high-quality images with finer details and less artifacts",
        "The same two discriminators, and the half-size one alone.",
        Variant("both sizes", runs="scales_large/proposed"),
        Variant("half size alone", patch=_small_discriminator),
        **_ATTRIBUTE_ERROR,
        options=_SCALES,
    ),
    Claim(
        "mask_guided",
        "style",
        "the style decoder learns to reconstruct the style code from the generated face image",
        "With the loss between the style code and the code decoded from the generated face, and "
        "without it (`weights.style` 0): faces in the style of a reference.",
        Variant("with the loss"),
        Variant("without", {"weights.style": 0.0}),
        **observed(error, "error in the style of a reference", "segmentation/generated/miou"),
        options={"data.size": 32, "train.steps": 900, "train.ema_half_life": 0.5},
    ),
    Claim(
        "mask_guided",
        "control",
        "by manipulating the face mask, we can finely control the generated face image",
        "The hair of a label map is replaced by another person's: how much pixels change whose "
        "class stays, and whose class changes.",
        Variant("class stays", runs="style/proposed", measure=map_edit(True)),
        Variant("class changes", runs="style/proposed", measure=map_edit(False)),
        "change of the face",
        "share of changed classes",
    ),
    Claim(
        "mask_guided",
        "diverse",
        "With the style code, the proposed model can generate different face images matching the "
        "input face mask",
        "Faces of one label map in three styles, segmented: pixels of another class than in this "
        "map, and than in another person's. Beside it: the difference between two styles, as a "
        "share of that between real faces of one map in the colours of different people.",
        Variant("own map", runs="style/proposed", measure=another_map(True)),
        Variant("another's map", runs="style/proposed", measure=another_map(False)),
        "pixels of another class",
        "difference of two styles",
    ),
    Claim(
        "domain_alignment",
        "blocks",
        "adopt a top-k ranking operation to correspond block-wise features in two distinct "
        "domains, which exploits the spatial relationship of facial parts and preserves the "
        "texture structure during alignment",
        "Attention to the pixels of the 8 retrieved of 16 blocks, and to all pixels; equal steps.",
        Variant("top-k blocks"),
        Variant("dense", {"alignment.kind": "dense"}),
        **_EXEMPLAR_ERROR,
        options=_ALIGNMENT,
    ),
    Claim(
        "domain_alignment",
        "parts",
        "Existing methods learn image-level features to align distinct domains in an intermediate "
        "domain, which ignore the spatial relationship of the facial semantic parts and therefore "
        "lead to semantic mismatching problems",
        "The class of the pixels that are aligned to a pixel of the label map, and of all pixels "
        "of the exemplar, which is what features of the whole image offer.",
        Variant("aligned", runs="blocks/proposed", measure=other_class(True)),
        Variant("whole image", runs="blocks/proposed", measure=other_class(False)),
        "pixels of another class",
        "eyes, brows and mouth, %",
    ),
    Claim(
        "domain_alignment",
        "texture",
        "preserves the texture structure during alignment",
        "By how much the fine detail of the generated faces is weaker or stronger than the ground "
        "truth's, with top-k blocks and with dense attention.",
        Variant("top-k blocks", runs="blocks/proposed"),
        Variant("dense", runs="blocks/control"),
        **observed(lost_texture, "lack or excess of detail", "generated/psnr"),
    ),
    Claim(
        "domain_alignment",
        "fusion",
        "The aligned features are finally fused with adaptive weights learned from their "
        "long-range correlation coefficients",
        "The condition's and the aligned features fused with learned weights, and added with equal "
        "ones.",
        Variant("adaptive", runs="blocks/proposed"),
        Variant("addition", patch=_addition),
        **_EXEMPLAR_ERROR,
        options=_ALIGNMENT,
    ),
    Claim(
        "seg_hierarchical",
        "hierarchy",
        "methods that rely only on a global generator usually suffer from changing unwanted "
        "attributes along with the target attributes",
        "The global generator with local ones for eyes and mouth, and the global generator and "
        "discriminator alone.",
        Variant("hierarchical"),
        Variant("global alone", {"weights.local": 0.0}, _global_alone),
        **_OUTSIDE,
        options=_SEGMENTS,
    ),
    Claim(
        "seg_hierarchical",
        "masks",
        "bounding boxes centred around the sparse facial key points which are non-differentiable, "
        "inaccurate and unrealistic",
        "Soft masks of eyes and mouth from the segmentation, and the bounding boxes of these "
        "masks.",
        Variant("soft masks", runs="hierarchy/proposed"),
        Variant("boxes", patch=_boxes),
        **_OUTSIDE,
        options=_SEGMENTS,
    ),
    Claim(
        "seg_hierarchical",
        "joint",
        "gradients from hierarchical GANs are propagated to the semantic segmentation network "
        "[...] This allows both architectures to benefit from each other",
        "400 steps of joint training with the generators' gradients for the segmentation network "
        "(U-Net), and without them (`weights.to_segmenter` 0).",
        Variant("with gradients"),
        Variant("without", {"weights.to_segmenter": 0.0}),
        "100 - mIoU of a face",
        "edited/accuracy",
        wrong_segments,
        _JOINT,
    ),
    Claim(
        "seg_hierarchical",
        "joint_bisenet",
        "gradients from hierarchical GANs are propagated to the semantic segmentation network "
        "[...] This allows both architectures to benefit from each other",
        "The same with BiSeNet, at 64 px: its features have an eighth of the image's side.",
        Variant("with gradients"),
        Variant("without", {"weights.to_segmenter": 0.0}),
        "100 - mIoU of a face",
        "edited/accuracy",
        wrong_segments,
        {**_JOINT, "data.size": 64, "segmenter.kind": "bisenet"},
    ),
)
"""All claims that are tested."""
