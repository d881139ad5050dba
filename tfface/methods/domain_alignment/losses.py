"""The objective of domain alignment: that of its relatives CoCosNet (its code) and RABIT.

The paper's abstract names no losses. x is the target, c its condition (a label map or lines), e the
exemplar, w the exemplar warped to the condition, y the generated image. "Pairs" are examples whose
exemplar has the appearance of the target.
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
_MATCHING_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
_CONTEXTUAL_WEIGHTS = (2.0, 4.0, 8.0)


def forward(method: Method, nets: Networks, batch: Batch) -> Batch:
    """`encoded`, the networks' input for c, and results of `generate`, with `fake` for y."""
    encoded = method.encode(batch["condition"])
    labels = batch["exemplar_label_map"]
    result = method.generate(nets, encoded, batch["exemplar"], labels, training=True)
    names = ("warped", "warped_labels", "query", "key", "compared")
    return {"encoded": encoded, "fake": result["image"], **{name: result[name] for name in names}}


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The hinge loss, with the same weight as the generator's; CoCosNet's code."""
    images = [batch["image"], tf.stop_gradient(batch["fake"])]
    (real, _), (fake, _) = discriminate(nets, batch["encoded"], images)
    hinge = hinge_discriminator(real, fake)
    return method.config.weights.adversarial * hinge, {"hinge": hinge}


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The weighted sum of CoCosNet's and RABIT's losses; costly terms of weight 0 are left out."""
    weights, target, image = method.config.weights, batch["image"], batch["fake"]
    (_, real_maps), (logits, maps) = discriminate(nets, batch["encoded"], [target, image])
    pixels = region_distance(
        image, target, batch["label_map"], len(CLASSES_19), method.config.region_balance
    )
    terms = {
        "adversarial": hinge_generator(logits),
        "disc_features": feature_matching(
            maps, [tf.stop_gradient(m) for m in real_maps], Discriminator.scales
        ),
        "pixel": pair_mean(pixels, batch),
        "warp": pair_mean(distance(batch["warped"], half(target)), batch),
    }
    total = (
        weights.adversarial * terms["adversarial"]
        + weights.discriminator_features * terms["disc_features"]
        + weights.pixel * terms["pixel"]
        + weights.warp * terms["warp"]
    )
    if weights.domain:
        features = nets["exemplar_encoder"](target, training=True)[2]
        terms["domain"] = domain_alignment(batch["compared"], features)
        total += weights.domain * terms["domain"]
    if weights.mask:
        terms["mask"] = warped_mask(
            batch["warped_labels"],
            shares(batch["label_map"]),
            shares(batch["exemplar_label_map"]),
        )
        total += weights.mask * terms["mask"]
    if weights.cycle:
        # The reverse direction is the alignment with query and key exchanged.
        cycled = method.align(batch["key"], batch["query"], batch["warped"])["aligned"]
        terms["cycle"] = cycle(cycled, batch["exemplar"])
        total += weights.cycle * terms["cycle"]
    if method.perceptual is not None:
        terms |= perceptual_terms(method.perceptual, image, batch)
        total += (
            weights.pair_features * terms["pair_features"]
            + weights.perceptual * terms["perceptual"]
            + weights.contextual * terms["contextual"]
        )
    return total, terms


def discriminate(nets: Networks, condition: tf.Tensor, images: list[tf.Tensor]):
    """Logits and feature maps of the discriminator for several batches, in one pass.

    Returns:
        For each batch: the logits of each scale, and all feature maps before them.
    """
    count, scales = len(images), Discriminator.scales
    maps = nets["discriminator"](
        [tf.concat([condition] * count, 0), tf.concat(images, 0)], training=True
    )
    maps_by_batch = zip(*(tf.split(m, count) for m in maps), strict=True)
    per_scale = len(maps) // scales
    return [
        (
            [m for i, m in enumerate(batch_maps) if i % per_scale == per_scale - 1],
            [m for i, m in enumerate(batch_maps) if i % per_scale < per_scale - 1],
        )
        for batch_maps in maps_by_batch
    ]


def pair_mean(values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The mean of values [B] over the pairs of a batch; 0 without pairs. See `pair_weights`."""
    return tf.reduce_mean(values * batch["pair_weight"])


def cycle(cycled: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """E |e' - e|_1 of the exemplar warped to the condition and back, at half size; CoCosNet."""
    return tf.reduce_mean(tf.abs(cycled - half(exemplar)))


def perceptual_terms(network, image: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
    """The losses on VGG19's features f_l; weights w_l and layers are those of CoCosNet's code.

        pair_features = sum_l w_l |f_l(y) - f_l(x)|_1, for pairs only
        perceptual    = |f_4(y) - f_4(x)|^2
        contextual    = sum_l w_l `contextual`(f_l(y), f_l(e))

    Args:
        network: Maps images to their features, finest first.
        image: The generated images [B,S,S,3].
        batch: Batch with the targets and the exemplars.
    """
    references = tf.concat([batch["image"], batch["exemplar"]], 0)
    features = network(image)
    targets, exemplars = zip(*(tf.split(f, 2) for f in network(references)), strict=True)
    matching = tf.add_n(
        [w * distance(f, t) for w, f, t in zip(_MATCHING_WEIGHTS, features, targets, strict=True)]
    )
    pooled = [[half(f[2]), f[3], f[4]] for f in (features, exemplars)]
    context = [w * contextual(f, e) for w, f, e in zip(_CONTEXTUAL_WEIGHTS, *pooled, strict=True)]
    return {
        "pair_features": pair_mean(matching, batch),
        "perceptual": tf.reduce_mean(tf.square(features[3] - targets[3])),
        "contextual": tf.add_n(context),
    }


def hinge_discriminator(real: list[tf.Tensor], fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of E[relu(1 - D(real))] + E[relu(1 + D(fake))], from logits per scale."""
    terms = [
        tf.reduce_mean(tf.nn.relu(1.0 - r)) + tf.reduce_mean(tf.nn.relu(1.0 + f))
        for r, f in zip(real, fake, strict=True)
    ]
    return tf.add_n(terms) / len(terms)


def hinge_generator(fake: list[tf.Tensor]) -> tf.Tensor:
    """Mean over scales of -E[D(fake)], from logits per scale."""
    return -tf.add_n([tf.reduce_mean(f) for f in fake]) / len(fake)


def feature_matching(fake: list[tf.Tensor], real: list[tf.Tensor], scales: int) -> tf.Tensor:
    """Mean absolute difference, summed over feature maps and divided by the number of scales."""
    terms = [tf.reduce_mean(tf.abs(f - r)) for f, r in zip(fake, real, strict=True)]
    return tf.add_n(terms) / scales


def pair_weights(paired: tf.Tensor) -> tf.Tensor:
    """Weights [B] that turn a mean over the batch into the mean over its pairs.

    They are 0 for examples that are not pairs. (CoCosNet's code divides by both the number of pairs
    and the batch size.)

    Args:
        paired: float32 [B], 1 for pairs and 0 for other examples.
    """
    count = tf.cast(tf.size(paired), tf.float32)
    return paired * count / tf.maximum(tf.reduce_sum(paired), 1.0)


def domain_alignment(condition: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of L2-normalised features [B,H,W,C] of condition and image.

    `novgg_featpair` in CoCosNet's code.
    """
    return tf.reduce_mean(tf.abs(_normalize(condition) - _normalize(image)))


def _normalize(x: tf.Tensor) -> tf.Tensor:
    """Features [...,C] of length 1; not centred, unlike `tfface.layers.attention.unit`."""
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, -1, keepdims=True) + 1e-12)


def warped_mask(warped: tf.Tensor, condition: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood of the condition's classes in the exemplar's warped label map.

    Positions whose class does not occur in the exemplar have weight 0. CoCosNet always ignores the
    background; here it is ignored only if the exemplar has none. The mean is taken over the
    positions of an example, then over examples, so that it does not depend on the number of
    devices.

    Args:
        warped: Class fractions [B,H,W,19], which sum to 1 at each position.
        condition: Class fractions [B,H,W,19] of the condition's label map.
        exemplar: Class fractions [B,H,W,19] of the exemplar's label map.
    """
    present = tf.cast(tf.reduce_max(exemplar, (1, 2), keepdims=True) > 0, warped.dtype)
    weight = condition * present
    likelihood = -tf.reduce_sum(weight * tf.math.log(warped + 1e-10), (1, 2, 3))
    return tf.reduce_mean(likelihood / (tf.reduce_sum(weight, (1, 2, 3)) + 1e-5))


def contextual(generated: tf.Tensor, exemplar: tf.Tensor) -> tf.Tensor:
    """Contextual loss (Mechrez et al. 2018) of features [B,H,W,C], in CoCosNet's form.

    It is small if each generated feature is similar to some feature of the exemplar at any
    position. With d_ij the cosine distance of generated feature i and exemplar feature j:

        d'_ij = d_ij / (min_j d_ij + 1e-3)
        A_ij  = softmax_j((1 - d'_ij) / h)
        loss  = E -log(mean_i max_j A_ij)

    Returns:
        [], the mean over examples of -log CX.
    """
    _, height, width, channels = generated.shape
    x, y = (tf.reshape(f, (-1, height * width, channels)) for f in (generated, exemplar))
    mean = tf.reduce_mean(y, -1, keepdims=True)  # PONO: the exemplar's mean at the same position.
    x, y = (_normalize(f - mean) for f in (x, y))
    distance = tf.maximum(1.0 - tf.matmul(x, y, transpose_b=True), 0.0)
    relative = distance / (tf.reduce_min(distance, -1, keepdims=True) + 1e-3)
    similarity = tf.nn.softmax((1.0 - relative) / _BANDWIDTH)
    return tf.reduce_mean(-tf.math.log(tf.reduce_mean(tf.reduce_max(similarity, -1), -1)))
