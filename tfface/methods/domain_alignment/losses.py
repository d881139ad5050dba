"""The objective of domain alignment: that of its relatives CoCosNet (its code) and RABIT.

The paper's abstract names no losses of its own. x is the target, of which c is the condition (a
label map or lines), e the exemplar, w the exemplar carried to the condition's places (warped), y
the image made. "Pairs" are examples whose exemplar shows how the target looks.
"""

from __future__ import annotations

import tensorflow as tf

from tfface.data.label_maps import CLASSES_19
from tfface.losses.regions import distance, region_distance
from tfface.methods.base import Batch, Losses, Method, Networks
from tfface.methods.domain_alignment.conditions import half, shares
from tfface.methods.domain_alignment.networks import Discriminator

_BANDWIDTH = 0.1  # h of the contextual loss; CoCosNet's code, as the 1e-3 below.
# Weights of relu{1..5}_2 in the perceptual feature matching, and of relu{3..5}_2 in the contextual
# loss; CoCosNet's code.
_MATCHED = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
_IN_CONTEXT = (2.0, 4.0, 8.0)


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The hinge loss, weighted as the generator's; CoCosNet's code."""
    given = method.encode(batch["condition"])
    fake = method.generate(nets, given, batch["exemplar"], training=True)["image"]
    judged = judge(nets, given, [batch["image"], tf.stop_gradient(fake)])
    (real, _), (made, _) = judged
    hinge = hinge_discriminator(real, made)
    return method.config.weights.adversarial * hinge, {"hinge": hinge}


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The sum of CoCosNet's losses, with RABIT's; a weight of 0 leaves out what costs time."""
    weights, target = method.config.weights, batch["image"]
    given = method.encode(batch["condition"])
    made = method.generate(nets, given, batch["exemplar"], batch["exemplar_label_map"], True)
    (_, real_maps), (logits, maps) = judge(nets, given, [target, made["image"]])
    pixels = region_distance(
        made["image"], target, batch["label_map"], len(CLASSES_19), method.config.region_balance
    )
    terms = {
        "adversarial": hinge_generator(logits),
        "disc_features": feature_matching(
            maps, [tf.stop_gradient(m) for m in real_maps], Discriminator.scales
        ),
        "pixel": of_pairs(pixels, batch),
        "warp": of_pairs(distance(made["warped"], half(target)), batch),
    }
    total = (
        weights.adversarial * terms["adversarial"]
        + weights.discriminator_features * terms["disc_features"]
        + weights.pixel * terms["pixel"]
        + weights.warp * terms["warp"]
    )
    if weights.domain:
        features = nets["exemplar_encoder"](target, training=True)[2]
        terms["domain"] = domain_alignment(made["compared"], features)
        total += weights.domain * terms["domain"]
    if weights.mask:
        terms["mask"] = warped_mask(
            made["warped_labels"], shares(batch["label_map"]), shares(batch["exemplar_label_map"])
        )
        total += weights.mask * terms["mask"]
    if weights.cycle:
        # There and back: the reverse direction is the alignment with the roles exchanged.
        back = method.align(made["key"], made["query"], made["warped"])["aligned"]
        terms["cycle"] = cycle(back, batch["exemplar"])
        total += weights.cycle * terms["cycle"]
    if method.perceptual is not None:
        terms |= perceptual_terms(method.perceptual, made["image"], batch)
        total += (
            weights.pair_features * terms["pair_features"]
            + weights.perceptual * terms["perceptual"]
            + weights.contextual * terms["contextual"]
        )
    return total, terms


def judge(nets: Networks, given: tf.Tensor, images: list[tf.Tensor]):
    """Logits and feature maps of the discriminator for several batches, in one pass.

    Returns:
        For each batch: the logits of each scale, and all feature maps before them.
    """
    count, scales = len(images), Discriminator.scales
    maps = nets["discriminator"](
        [tf.concat([given] * count, 0), tf.concat(images, 0)], training=True
    )
    each = zip(*(tf.split(m, count) for m in maps), strict=True)
    per = len(maps) // scales
    return [
        (
            [m for i, m in enumerate(some) if i % per == per - 1],
            [m for i, m in enumerate(some) if i % per < per - 1],
        )
        for some in each
    ]


def of_pairs(values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The mean over the pairs of a batch, of values [B]; 0 without pairs. See `pair_weights`."""
    return tf.reduce_mean(values * batch["pair_weight"])


def cycle(back: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """E |e' - e|_1 of the exemplar carried there and back, at half its size; CoCosNet's code."""
    return tf.reduce_mean(tf.abs(back - half(exemplar)))


def perceptual_terms(network, image: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
    """The losses on VGG19's features f_l; weights w_l and layers are those of CoCosNet's code.

        pair_features = sum_l w_l |f_l(y) - f_l(x)|_1, of pairs
        perceptual    = |f_4(y) - f_4(x)|^2
        contextual    = sum_l w_l `contextual`(f_l(y), f_l(e))

    Args:
        network: Images to their features, finest first.
        image: The images made [B,S,S,3].
        batch: With the targets and the exemplars.
    """
    fixed = tf.concat([batch["image"], batch["exemplar"]], 0)
    made = network(image)
    targets, exemplars = zip(*(tf.split(f, 2) for f in network(fixed)), strict=True)
    matched = tf.add_n(
        [w * distance(m, t) for w, m, t in zip(_MATCHED, made, targets, strict=True)]
    )
    pooled = [[half(f[2]), f[3], f[4]] for f in (made, exemplars)]
    context = [w * contextual(m, e) for w, m, e in zip(_IN_CONTEXT, *pooled, strict=True)]
    return {
        "pair_features": of_pairs(matched, batch),
        "perceptual": tf.reduce_mean(tf.square(made[3] - targets[3])),
        "contextual": tf.add_n(context),
    }


def hinge_discriminator(real: list[tf.Tensor], fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of E[relu(1 - D(real))] + E[relu(1 + D(fake))]; logits of each scale."""
    terms = [
        tf.reduce_mean(tf.nn.relu(1.0 - r)) + tf.reduce_mean(tf.nn.relu(1.0 + f))
        for r, f in zip(real, fake, strict=True)
    ]
    return tf.add_n(terms) / len(terms)


def hinge_generator(fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of -E[D(fake)]."""
    return -tf.add_n([tf.reduce_mean(f) for f in fake]) / len(fake)


def feature_matching(fake: list[tf.Tensor], real: list[tf.Tensor], scales: int) -> tf.Tensor:
    """Sum over feature maps of the mean absolute difference, over the number of scales."""
    terms = [tf.reduce_mean(tf.abs(f - r)) for f, r in zip(fake, real, strict=True)]
    return tf.add_n(terms) / scales


def pair_weights(paired: tf.Tensor) -> tf.Tensor:
    """Weights [B] with which a mean over a whole batch is the mean over its pairs.

    0 for the others, and for all if there is no pair. (CoCosNet's code divides by the number of
    pairs and by that of the batch.)

    Args:
        paired: float32 [B] of 0 and 1.
    """
    count = tf.cast(tf.size(paired), tf.float32)
    return paired * count / tf.maximum(tf.reduce_sum(paired), 1.0)


def domain_alignment(condition: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of features [B,H,W,C], of length 1, of a condition and its image.

    CoCosNet's code, `novgg_featpair`.
    """
    return tf.reduce_mean(tf.abs(_directions(condition) - _directions(image)))


def _directions(x: tf.Tensor) -> tf.Tensor:
    """Features [...,C] at length 1; not centred, unlike `tfface.layers.attention.unit`."""
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, -1, keepdims=True) + 1e-12)


def warped_mask(warped: tf.Tensor, condition: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood of the condition's classes in the exemplar's warped label map.

    Places whose class the exemplar does not have count nothing. CoCosNet leaves the background out
    always; here it is left out only if the exemplar has none. The mean is over the places of an
    example, then over examples, so that it is the same on any number of devices.

    Args:
        warped: Shares of the classes [B,H,W,19], each place's sum is 1.
        condition: Shares of the classes [B,H,W,19] in the condition's label map.
        exemplar: The same of the exemplar's.
    """
    there = tf.cast(tf.reduce_max(exemplar, (1, 2), keepdims=True) > 0, warped.dtype)
    weight = condition * there
    likelihood = -tf.reduce_sum(weight * tf.math.log(warped + 1e-10), (1, 2, 3))
    return tf.reduce_mean(likelihood / (tf.reduce_sum(weight, (1, 2, 3)) + 1e-5))


def contextual(made: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Contextual loss (Mechrez et al. 2018) of features [B,H,W,C], in CoCosNet's form.

    Each of `made`'s features shall be like one of the exemplar's, wherever that is.

    Returns:
        [], the mean over examples of -log CX.
    """
    _, height, width, channels = made.shape
    x, y = (tf.reshape(f, (-1, height * width, channels)) for f in (made, exemplar))
    mean = tf.reduce_mean(y, -1, keepdims=True)  # PONO: of the exemplar, at the same place.
    x, y = (_directions(f - mean) for f in (x, y))
    distance = tf.maximum(1.0 - tf.matmul(x, y, transpose_b=True), 0.0)
    relative = distance / (tf.reduce_min(distance, -1, keepdims=True) + 1e-3)
    alike = tf.nn.softmax((1.0 - relative) / _BANDWIDTH)
    return tf.reduce_mean(-tf.math.log(tf.reduce_mean(tf.reduce_max(alike, -1), -1)))
