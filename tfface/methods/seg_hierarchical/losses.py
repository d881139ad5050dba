"""The objective of segmentation with hierarchical GANs; the card states which parts are inferred.

x is a real face and y its expression, t the target expression, G(x,t) the face from all generators
and the fusion. The global discriminator sees whole faces, each local one its region. The terms of a
discriminator are StarGAN's or those of a multi-task discriminator (`tfface.losses.expressions`).
They are summed as in APDrawingGAN's code, with the weight `weights.local` for regions. The names of
a region's terms have the region's name as a prefix.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from tfface.data.label_map_ops import one_hot
from tfface.losses import expressions
from tfface.losses.segmentation import entropy_and_dice
from tfface.methods.base import Batch, Losses, Method, Networks
from tfface.methods.seg_hierarchical.masks import scale_gradient

# face-parsing.PyTorch: pixels with a probability below 0.7 are hard; at least 1/16 are counted.
_HARD_LOSS = -math.log(0.7)
_MIN_HARD_SHARE = 1 / 16

WHOLE = "global"
"""Name of the whole image, next to the names of the regions."""


def segmentation_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The first stage: only `segmentation`."""
    heads = tf.nest.flatten(nets["segmenter"](batch["seg_image"]))
    seg, accuracy = segmentation(batch["seg_label_map"], heads, method.config.segmenter.loss)
    return seg, {"seg": seg, "accuracy": accuracy}


def classifier_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """Start of the second stage: E CE(C(x), y) for each discriminator (ours, as in SARGAN)."""
    image = batch["image"]
    # Ground-truth label maps if the batch has them, as the segmentation is the most expensive part.
    if "label_map" in batch:
        probabilities = one_hot(batch["label_map"])
    else:
        probabilities = tf.stop_gradient(method.segment(nets, image))
    losses = {}
    for name, view in method.views(image, method.grown(probabilities)).items():
        cls = expressions.classifier_term(nets[f"{name}_discriminator"], view, batch)
        losses[name] = cls, {"cls": cls}
    return with_local(losses, method.config.weights.local)


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The sum of the discriminators' losses, each StarGAN's equation 5, as in SARGAN."""
    image, weights = batch["image"], method.config.weights
    adversarial = method.config.adversarial
    probabilities = method.segment(nets, image)
    fake = method.manipulate(nets, image, method.one_hot(batch["target"]), probabilities)["image"]
    # Only the discriminators are differentiated.
    grown, fake = tf.stop_gradient(method.grown(probabilities)), tf.stop_gradient(fake)
    grown_fake = tf.stop_gradient(method.grown(method.segment(nets, fake)))
    fakes = method.views(fake, grown_fake)
    losses = {}
    for name, real in method.views(image, grown).items():
        terms = expressions.discriminator_terms(
            adversarial, nets[f"{name}_discriminator"], real, fakes[name], batch
        )
        if adversarial == "multitask":
            total = terms["real"] + terms["fake"] + terms["wrong"] + weights.r1 * terms["r1"]
        else:
            total = (
                terms["real"]
                + terms["fake"]
                + weights.classification_real * terms["cls"]
                + weights.gradient_penalty * terms["gp"]
            )
        losses[name] = total, terms
    return with_local(losses, weights.local)


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The second stage: `generators_loss` with the segmentation network frozen."""

    def frozen(images):
        return tf.stop_gradient(method.segment(nets, images))

    return generators_loss(method, nets, batch, frozen(batch["image"]), frozen)


def joint_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The third stage: L_G + lambda_seg L_seg, where L_G also reaches the segmentation network.

    Its gradient for that network is multiplied by `weights.to_segmenter`. The gradient is scaled,
    not the loss, as the generators need the full loss.
    """
    weights, count = method.config.weights, tf.shape(batch["image"])[0]
    both = tf.concat([batch["image"], batch["seg_image"]], 0)
    heads = tf.nest.flatten(nets["segmenter"](both))
    labelled = [head[count:] for head in heads]
    seg, accuracy = segmentation(batch["seg_label_map"], labelled, method.config.segmenter.loss)
    probabilities = scale_gradient(tf.nn.softmax(heads[0][:count]), weights.to_segmenter)

    def scaled(images):
        if not weights.to_segmenter:
            return tf.stop_gradient(method.segment(nets, images))
        # The gradient that passes through the network to the generators is not scaled.
        images = scale_gradient(images, 1.0 / weights.to_segmenter)
        return scale_gradient(method.segment(nets, images), weights.to_segmenter)

    total, terms = generators_loss(method, nets, batch, probabilities, scaled)
    return total + weights.segmentation * seg, {**terms, "seg": seg, "accuracy": accuracy}


def generators_loss(
    method: Method,
    nets: Networks,
    batch: Batch,
    probabilities: tf.Tensor,
    segment: Callable[[tf.Tensor], tf.Tensor],
) -> Losses:
    """StarGAN's equation 6 against all discriminators, with the cycle of the whole face.

    L_G = sum_D (L_adv + lambda_cls L_cls^f) + lambda_rec |x - G(G(x,t),y)|_1

    The optional weight on the change of the face is ours.

    Args:
        method: The method.
        nets: Its networks.
        batch: As for `discriminator_loss`.
        probabilities: Segmentation of the images, [B,S,S,19].
        segment: Segments the generated faces.
    """
    image, weights = batch["image"], method.config.weights
    source, target = method.one_hot(batch["expression"]), method.one_hot(batch["target"])
    fake = method.manipulate(nets, image, target, probabilities)["image"]
    fake_probabilities = segment(fake)
    losses = {}
    for name, view in method.views(fake, method.grown(fake_probabilities)).items():
        terms = expressions.generator_terms(
            method.config.adversarial, nets[f"{name}_discriminator"], view, batch
        )
        total = terms["fake"]
        if "cls" in terms:
            total += weights.classification_fake * terms["cls"]
        losses[name] = total, terms
    total, terms = with_local(losses, weights.local)
    if weights.reconstruction:
        cycled = method.manipulate(nets, fake, source, fake_probabilities)["image"]
        terms["rec"] = tf.reduce_mean(tf.abs(image - cycled))
        total += weights.reconstruction * terms["rec"]
    if weights.change:
        terms["change"] = tf.reduce_mean(tf.abs(fake - image))
        total += weights.change * terms["change"]
    return total, terms


def with_local(losses: dict[str, Losses], weight: float) -> Losses:
    """L_global + lambda_local sum_region L_region, as in APDrawingGAN's code.

    Args:
        losses: Loss and terms of the global discriminator (WHOLE) and of each region.
        weight: Weight of the regions' losses.

    Returns:
        The sum, and the terms by name, those of a region as "REGION_TERM".
    """
    total, terms = losses[WHOLE]
    terms = dict(terms)
    for region, (loss, local_terms) in losses.items():
        if region != WHOLE:
            total += weight * loss
            terms |= {f"{region}_{name}": value for name, value in local_terms.items()}
    return total, terms


def segmentation(
    label_map: tf.Tensor, heads: list[tf.Tensor], kind: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Segmentation loss of logits, and their pixel accuracy.

    Args:
        label_map: int32 [B,S,S], 0 to 18.
        heads: Logits [B,S,S,19] of each output, the main one first.
        kind: "ce": mean cross-entropy over all pixels; "ohem": over the hard pixels of each image
            (in the original, of the batch), but at least over 1/16 of all pixels; "dice":
            cross-entropy that gives small classes more weight, and the Dice loss of each image
            (ours).

    Returns:
        The loss, summed over all heads, and the pixel accuracy of the main output.
    """

    def loss(logits):
        if kind == "dice":
            return tf.reduce_mean(entropy_and_dice(label_map, logits, (1, 2)))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label_map, logits)
        return tf.reduce_mean(losses) if kind == "ce" else _hard_mean(losses)

    total = tf.add_n([loss(logits) for logits in heads])
    correct = tf.equal(tf.argmax(heads[0], -1, tf.int32), label_map)
    return total, tf.reduce_mean(tf.cast(correct, tf.float32))


def _hard_mean(losses: tf.Tensor) -> tf.Tensor:
    """The mean of pixel losses [B,S,S] over the hard pixels of each image, then over images."""
    count = int(losses.shape[1] * losses.shape[2] * _MIN_HARD_SHARE)
    losses = tf.reshape(losses, (-1, losses.shape[1] * losses.shape[2]))
    hard = tf.cast(losses > _HARD_LOSS, losses.dtype)
    number = tf.reduce_sum(hard, 1)
    mean = tf.reduce_sum(hard * losses, 1) / tf.maximum(number, 1.0)
    worst = tf.reduce_mean(tf.math.top_k(losses, count, sorted=False).values, 1)
    return tf.reduce_mean(tf.where(number > count, mean, worst))
