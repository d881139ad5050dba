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


def game_forward(method: Method, nets: Networks, batch: Batch) -> Batch:
    """The second stage: `forward` with the segmentation network frozen."""

    def frozen(images):
        return tf.stop_gradient(method.segment(nets, images))

    return forward(method, nets, batch, frozen(batch["image"]), frozen)


def joint_forward(method: Method, nets: Networks, batch: Batch) -> Batch:
    """The third stage: `forward` that reaches the segmentation network, and `heads`, its outputs.

    The gradient for that network is multiplied by `weights.to_segmenter`. The gradient is scaled,
    not the loss, as the generators need the full loss. `heads` are for the labelled images.
    """
    factor, count = method.config.weights.to_segmenter, tf.shape(batch["image"])[0]
    both = tf.concat([batch["image"], batch["seg_image"]], 0)
    heads = tf.nest.flatten(nets["segmenter"](both))
    probabilities = scale_gradient(tf.nn.softmax(heads[0][:count]), factor)

    def scaled(images):
        if not factor:
            return tf.stop_gradient(method.segment(nets, images))
        # The gradient that passes through the network to the generators is not scaled.
        images = scale_gradient(images, 1.0 / factor)
        return scale_gradient(method.segment(nets, images), factor)

    generated = forward(method, nets, batch, probabilities, scaled)
    return {**generated, "heads": [head[count:] for head in heads]}


def forward(
    method: Method,
    nets: Networks,
    batch: Batch,
    probabilities: tf.Tensor,
    segment: Callable[[tf.Tensor], tf.Tensor],
) -> Batch:
    """The edited faces, and where the regions are.

    Args:
        method: The method.
        nets: Its networks.
        batch: `image` and `target`.
        probabilities: Segmentation of the images, [B,S,S,19].
        segment: Segments the edited faces.

    Returns:
        `fake`, G(x,t) [B,S,S,3]; its segmentation `fake_probabilities` [B,S,S,19]; the grown masks
        [B,S,S,R] of the images, `grown`, and of the edited faces, `fake_grown`.
    """
    target = method.one_hot(batch["target"])
    fake = method.manipulate(nets, batch["image"], target, probabilities)["image"]
    fake_probabilities = segment(fake)
    return {
        "fake": fake,
        "fake_probabilities": fake_probabilities,
        "grown": method.grown(probabilities),
        "fake_grown": method.grown(fake_probabilities),
    }


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The sum of the discriminators' losses, each StarGAN's equation 5, as in SARGAN."""
    weights, adversarial = method.config.weights, method.config.adversarial
    # Only the discriminators are differentiated.
    grown, fake, fake_grown = (
        tf.stop_gradient(batch[name]) for name in ("grown", "fake", "fake_grown")
    )
    fakes = method.views(fake, fake_grown)
    losses = {}
    for name, real in method.views(batch["image"], grown).items():
        terms = expressions.discriminator_terms(
            adversarial,
            nets[f"{name}_discriminator"],
            real,
            fakes[name],
            batch,
            penalty=weights.r1 > 0,
        )
        losses[name] = expressions.discriminator_total(terms, weights), terms
    return with_local(losses, weights.local)


def joint_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """The third stage: L_G + lambda_seg L_seg."""
    total, terms = generator_loss(method, nets, batch)
    kind = method.config.segmenter.loss
    seg, accuracy = segmentation(batch["seg_label_map"], batch["heads"], kind)
    total += method.config.weights.segmentation * seg
    return total, {**terms, "seg": seg, "accuracy": accuracy}


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN's equation 6 against all discriminators, with the cycle of the whole face.

    L_G = sum_D (L_adv + lambda_cls L_cls^f) + lambda_rec |x - G(G(x,t),y)|_1

    The optional weight on the change of the face is ours.
    """
    image, fake, weights = batch["image"], batch["fake"], method.config.weights
    losses = {}
    for name, view in method.views(fake, batch["fake_grown"]).items():
        terms = expressions.generator_terms(
            method.config.adversarial, nets[f"{name}_discriminator"], view, batch
        )
        total = terms["fake"]
        if "cls" in terms:
            total += weights.classification_fake * terms["cls"]
        losses[name] = total, terms
    total, terms = with_local(losses, weights.local)
    if weights.reconstruction:
        source = method.one_hot(batch["expression"])
        cycled = method.manipulate(nets, fake, source, batch["fake_probabilities"])["image"]
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
