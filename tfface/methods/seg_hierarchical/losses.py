"""The objective of segmentation with hierarchical GANs; what is inferred says the card.

x is a real face and y its expression, t the target, G(x,t) the face made by all generators and the
fusion. Each discriminator, the global one and one of each region, sees its part of faces. Its terms
are StarGAN's or those of a multi-task discriminator (`tfface.losses.expressions`), summed as
APDrawingGAN's code does: those of the regions count `weights.local` times. Terms are named as those
of the global discriminator; those of a local one have its region's name before.
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

# face-parsing.PyTorch: pixels with a probability below 0.7 are hard; at least so many are counted.
_HARD = -math.log(0.7)
_AT_LEAST = 1 / 16

WHOLE = "global"
"""Stands beside the regions in names, for what concerns the whole image."""


def segmentation_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The first stage: `segmentation` alone."""
    heads = tf.nest.flatten(nets["segmenter"](batch["seg_image"]))
    seg, accuracy = segmentation(batch["seg_label_map"], heads, method.config.segmenter.loss)
    return seg, {"seg": seg, "accuracy": accuracy}


def classifier_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The second stage begins with E CE(C(x), y) of each discriminator; ours, as in SARGAN."""
    image = batch["image"]
    # Of true label maps where there are any: the segmentation costs more than all of this.
    if "label_map" in batch:
        given = one_hot(batch["label_map"])
    else:
        given = tf.stop_gradient(method.segment(nets, image))
    of_kinds = {}
    for kind, view in method.views(image, method.grown(given)).items():
        cls = expressions.classifier_term(nets[f"{kind}_discriminator"], view, batch)
        of_kinds[kind] = cls, {"cls": cls}
    return with_local(of_kinds, method.config.weights.local)


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The sum of the discriminators' losses, each StarGAN's equation 5, as SARGAN's."""
    image, weights = batch["image"], method.config.weights
    adversarial = method.config.adversarial
    given = method.segment(nets, image)
    fake = method.manipulate(nets, image, method.one_hot(batch["target"]), given)["image"]
    # All that is not a discriminator's is a given here, so nothing else is differentiated.
    grown, fake = tf.stop_gradient(method.grown(given)), tf.stop_gradient(fake)
    grown_fake = tf.stop_gradient(method.grown(method.segment(nets, fake)))
    fakes = method.views(fake, grown_fake)
    of_kinds = {}
    for kind, real in method.views(image, grown).items():
        terms = expressions.discriminator_terms(
            adversarial, nets[f"{kind}_discriminator"], real, fakes[kind], batch
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
        of_kinds[kind] = total, terms
    return with_local(of_kinds, weights.local)


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The rest of the second stage: `generators_loss`, the segmentation network as it is."""

    def frozen(images):
        return tf.stop_gradient(method.segment(nets, images))

    return generators_loss(method, nets, batch, frozen(batch["image"]), frozen)


def joint_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The third stage: L_G + lambda_seg L_seg, where L_G reaches the segmentation network too.

    `weights.to_segmenter` times: the gradient is scaled, not the loss, as one loss serves both.
    """
    weights, count = method.config.weights, tf.shape(batch["image"])[0]
    both = tf.concat([batch["image"], batch["seg_image"]], 0)
    heads = tf.nest.flatten(nets["segmenter"](both))
    labelled = [head[count:] for head in heads]
    seg, accuracy = segmentation(batch["seg_label_map"], labelled, method.config.segmenter.loss)
    given = scale_gradient(tf.nn.softmax(heads[0][:count]), weights.to_segmenter)

    def scaled(images):
        if not weights.to_segmenter:
            return tf.stop_gradient(method.segment(nets, images))
        # What goes on to the generators, through the network, is not.
        images = scale_gradient(images, 1.0 / weights.to_segmenter)
        return scale_gradient(method.segment(nets, images), weights.to_segmenter)

    total, terms = generators_loss(method, nets, batch, given, scaled)
    return total + weights.segmentation * seg, {**terms, "seg": seg, "accuracy": accuracy}


def generators_loss(
    method: Method,
    nets: Networks,
    batch: Batch,
    given: tf.Tensor,
    segment: Callable[[tf.Tensor], tf.Tensor],
) -> Losses:
    """StarGAN's equation 6 against all discriminators, with the cycle of the whole face.

    L_G = sum_D (L_adv + lambda_cls L_cls^f) + lambda_rec |x - G(G(x,t),y)|_1

    And, which is ours, the change of the face.

    Args:
        method: The method.
        nets: Its networks.
        batch: As of `discriminator_loss`.
        given: Segmentation of the images, [B,S,S,19].
        segment: What segments the faces made.
    """
    image, weights = batch["image"], method.config.weights
    own, wanted = method.one_hot(batch["expression"]), method.one_hot(batch["target"])
    fake = method.manipulate(nets, image, wanted, given)["image"]
    seen = segment(fake)
    of_kinds = {}
    for kind, view in method.views(fake, method.grown(seen)).items():
        terms = expressions.generator_terms(
            method.config.adversarial, nets[f"{kind}_discriminator"], view, batch
        )
        total = terms["fake"]
        if "cls" in terms:
            total += weights.classification_fake * terms["cls"]
        of_kinds[kind] = total, terms
    total, terms = with_local(of_kinds, weights.local)
    cycled = method.manipulate(nets, fake, own, seen)["image"]
    terms["rec"] = tf.reduce_mean(tf.abs(image - cycled))
    total += weights.reconstruction * terms["rec"]
    if weights.change:
        terms["change"] = tf.reduce_mean(tf.abs(fake - image))
        total += weights.change * terms["change"]
    return total, terms


def with_local(of_kinds: dict[str, Losses], weight: float) -> Losses:
    """L_global + lambda_local sum_region L_region, as APDrawingGAN's code has it.

    Args:
        of_kinds: Loss and terms of the global discriminator (WHOLE) and of each region's.
        weight: That of the regions' losses.

    Returns:
        The sum; and the terms, those of a region as "REGION_TERM".
    """
    total, named = of_kinds[WHOLE]
    named = dict(named)
    for kind, (loss, terms) in of_kinds.items():
        if kind != WHOLE:
            total += weight * loss
            named |= {f"{kind}_{name}": value for name, value in terms.items()}
    return total, named


def segmentation(
    label_map: tf.Tensor, heads: list[tf.Tensor], kind: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross entropy of label maps and logits.

    Args:
        label_map: int32 [B,S,S] of 0 to 18.
        heads: Logits [B,S,S,19], the result first.
        kind: "ce": the mean over all pixels; "ohem": over the hard pixels of each image (in the
            original those of the batch), but over no fewer than 1/16 of all; "dice": cross entropy
            in which small classes count for more, and the Dice measure of each image (ours).

    Returns:
        The sum over all heads, and the share of pixels in which the result's largest logit is that
        of the label.
    """

    def loss(logits):
        if kind == "dice":
            return tf.reduce_mean(entropy_and_dice(label_map, logits, (1, 2)))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(label_map, logits)
        return tf.reduce_mean(losses) if kind == "ce" else _hard_mean(losses)

    total = tf.add_n([loss(logits) for logits in heads])
    right = tf.equal(tf.argmax(heads[0], -1, tf.int32), label_map)
    return total, tf.reduce_mean(tf.cast(right, tf.float32))


def _hard_mean(losses: tf.Tensor) -> tf.Tensor:
    """The mean over images of the mean over hard pixels, of losses [B,S,S]."""
    count = int(losses.shape[1] * losses.shape[2] * _AT_LEAST)
    losses = tf.reshape(losses, (-1, losses.shape[1] * losses.shape[2]))
    hard = tf.cast(losses > _HARD, losses.dtype)
    number = tf.reduce_sum(hard, 1)
    mean = tf.reduce_sum(hard * losses, 1) / tf.maximum(number, 1.0)
    worst = tf.reduce_mean(tf.math.top_k(losses, count, sorted=False).values, 1)
    return tf.reduce_mean(tf.where(number > count, mean, worst))
