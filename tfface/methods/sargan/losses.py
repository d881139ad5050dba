"""The objective of SARGAN: StarGAN's, Choi et al. 2018, equations 1 to 6, as WGAN-GP (equation 8).

x is a real face and y its expression, t the target expression, G(x,t) the edited face, D(x) the
realness map and C(x) the expression logits of the discriminator. The terms are in
`tfface.losses.expressions`. The terms of a multi-task discriminator replace those of WGAN-GP and
classification.
"""

from __future__ import annotations

import tensorflow as tf

from tfface.losses import expressions
from tfface.methods.base import Batch, Losses, Method, Networks


def classifier_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """E CE(C(x), y), for the first `classifier.steps` steps (ours, for short training)."""
    cls = expressions.classifier_term(
        nets["discriminator"], batch["image"], batch, method.config.augment
    )
    return cls, {"cls": cls}


def forward(method: Method, nets: Networks, batch: Batch) -> Batch:
    """G(x,t) as `fake`."""
    return {"fake": method.generate(nets, batch["image"], batch["target"])}


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN's equation 5, L_D = -L_adv + lambda_cls L_cls^r, with L_adv of equation 8."""
    c = method.config
    terms = expressions.discriminator_terms(
        c.adversarial,
        nets["discriminator"],
        batch["image"],
        tf.stop_gradient(batch["fake"]),
        batch,
        c.augment,
        penalty=c.weights.r1 > 0,
    )
    return expressions.discriminator_total(terms, c.weights), terms


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN's equation 6, L_G = L_adv + lambda_cls L_cls^f + lambda_rec L_rec.

    The optional weight on the change of the image is ours.
    """
    adversarial, weights = method.config.adversarial, method.config.weights
    image, fake = batch["image"], batch["fake"]
    terms = expressions.generator_terms(
        adversarial, nets["discriminator"], fake, batch, method.config.augment
    )
    total = terms["fake"]
    if "cls" in terms:
        total += weights.classification_fake * terms["cls"]
    if weights.reconstruction:
        terms["rec"] = reconstruction(image, method.generate(nets, fake, batch["expression"]))
        total += weights.reconstruction * terms["rec"]
    if weights.change:
        terms["change"] = change(image, fake)
        total += weights.change * terms["change"]
    return total, terms


def reconstruction(image: tf.Tensor, cycled: tf.Tensor) -> tf.Tensor:
    """E |x - G(G(x,t),y)|_1 of images [B,S,S,3]; StarGAN's equation 4."""
    return tf.reduce_mean(tf.abs(image - cycled))


def change(image: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """E |G(x,t) - x|_1 (ours), which favours the smallest change that shows t."""
    return tf.reduce_mean(tf.abs(fake - image))
