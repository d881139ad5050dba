"""The objective of mask-guided synthesis: that of StarGAN v2 (its code, `core/solver.py`).

An image reconstruction replaces StarGAN v2's cycle, and the diversity loss may be MSGAN's. The
paper's abstract names no losses.

m is a label map and x its image; F maps a latent z to a style code (style encoder), E maps a face
to a style code (style decoder), G(m,s) is the generated face, D the discriminator. Equations 1 to 5
are those of Choi et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.data.label_map_ops import one_hot
from tfface.data.label_maps import CLASSES_19
from tfface.losses.regions import distance, region_distance
from tfface.methods.base import Batch, Losses, Method, Networks


def forward(method: Method, nets: Networks, batch: Batch) -> Batch:
    """Style codes, and the faces generated with them.

    Returns:
        `codes` [k B,D] of the first latents and, with `reference_step`, of the first references (k
        is 2 then, else 1); `generated` [k B,S,S,3] with these codes; `reconstructed` [B,S,S,3] with
        the codes of the images themselves.
    """
    image, condition = batch["image"], one_hot(batch["label_map"])
    codes = [nets["style_encoder"](batch["latents"][:, 0], training=True)]
    if method.config.reference_step:
        # Without a gradient: only the generator learns from references.
        codes.append(reference_style(nets, batch, 0))
    own = nets["style_decoder"](image, training=True)
    conditions = tf.concat([condition] * (len(codes) + 1), 0)
    images = nets["generator"]([conditions, tf.concat([*codes, own], 0)], training=True)
    size = tf.shape(image)[0]
    return {
        "codes": tf.concat(codes, 0),
        "generated": images[:-size],
        "reconstructed": images[-size:],
    }


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN v2's equation 1, and R1: softplus(-D(x)) + softplus(D(G(m,s))) + gamma R1."""
    weights, condition = method.config.weights, one_hot(batch["label_map"])
    fake_logits = method.discriminate(
        nets, tf.stop_gradient(batch["generated"]), repeated(method, condition)
    )
    r1, logits = r1_penalty(lambda x: method.discriminate(nets, x, condition), batch["image"])
    terms = {
        "real": adversarial(logits, real=True),
        "fake": adversarial(fake_logits, real=False),
        "r1": r1,
    }
    return terms["real"] + terms["fake"] + weights.r1 * terms["r1"], terms


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN v2's equation 5, L_adv + lambda_sty L_sty - lambda_ds L_ds + lambda_cyc L_cyc.

    The reconstruction of the image replaces L_cyc. The term `diversity` is -L_ds.
    """
    c, weights, generated = method.config, method.config.weights, batch["generated"]
    conditions = repeated(method, one_hot(batch["label_map"]))
    decoded = nets["style_decoder"](generated, training=True)
    terms = {
        "adversarial": adversarial(method.discriminate(nets, generated, conditions), real=True),
        "style": style(decoded, batch["codes"]),
        "rec": reconstruction(
            batch["reconstructed"], batch["image"], batch["label_map"], c.region_balance
        ),
    }
    total = (
        terms["adversarial"]
        + weights.style * terms["style"]
        + weights.reconstruction * terms["rec"]
    )
    if weights.diversity:
        latents = tf.unstack(batch["latents"], axis=1)
        others = [nets["style_encoder"](latents[1], training=True)]
        if c.reference_step:
            others.append(reference_style(nets, batch, 1))
        second = nets["generator"]([conditions, tf.concat(others, 0)], training=True)
        second = tf.stop_gradient(second)
        terms["diversity"] = diversity(c.diversity, generated, second, latents, batch["diversity"])
        total += weights.diversity * terms["diversity"]
    return total, terms


def repeated(method: Method, condition: tf.Tensor) -> tf.Tensor:
    """Conditions [k B,S,S,C] of `generated`, from those of the batch."""
    return tf.concat([condition] * (2 if method.config.reference_step else 1), 0)


def reference_style(nets: Networks, batch: Batch, index: int) -> tf.Tensor:
    """Style codes [B,D] of the references with this index, without a gradient."""
    code = nets["style_decoder"](batch["references"][:, index], training=True)
    return tf.stop_gradient(code)


def style(decoded: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """E |s - E(G(m,s))|_1 of codes [B,D]; StarGAN v2's equation 2."""
    return tf.reduce_mean(tf.abs(decoded - codes))


def reconstruction(
    reconstructed: tf.Tensor, image: tf.Tensor, label_map: tf.Tensor, balance: float
) -> tf.Tensor:
    """E |x - G(m,E(x))|_1, which replaces StarGAN v2's equation 4; see `region_distance`."""
    classes = len(CLASSES_19)
    return tf.reduce_mean(region_distance(reconstructed, image, label_map, classes, balance))


def diversity(
    kind: str,
    first: tf.Tensor,
    second: tf.Tensor,
    latents: list[tf.Tensor],
    weight: tf.Tensor,
) -> tf.Tensor:
    """Penalises two similar faces for one label map; "dsgan" is minus StarGAN v2's equation 3.

    Args:
        kind: "dsgan" or "msgan".
        first: Images [k B,S,S,3]: B from latents, then B from references if k = 2.
        second: Other images for the same label maps, in the same order.
        latents: The latents of both, [B,Z] each.
        weight: Weight of the step, [B].
    """
    size = tf.shape(weight)[0]
    if kind == "dsgan":
        count = tf.shape(first)[0] // size
        return tf.reduce_mean(dsgan(first, second) * tf.tile(weight, [count]))
    # Only faces from latents: those from references have no latents to compare.
    return tf.reduce_mean(msgan(first[:size], second[:size], latents) * weight)


def adversarial(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean cross-entropy of logits [B] with "real" or "fake" (Goodfellow 2014).

    softplus(-logit) for real, softplus(logit) for fake. The generator's loss is that of its images
    with the label real (the non-saturating form).
    """
    return tf.reduce_mean(tf.nn.softplus(-logits if real else logits))


def r1_penalty(discriminate: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor) -> tuple:
    """Half the squared gradient of the logits on real images (Mescheder et al. 2018, R1).

    Args:
        discriminate: Maps images [B,S,S,3] to logits [B].
        real: Images [B,S,S,3].

    Returns:
        The penalty, summed over pixels and channels and averaged over the batch; and the logits.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        logits = discriminate(real)
        total = tf.reduce_sum(logits)
    gradient = tape.gradient(total, real)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))), logits


def dsgan(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Minus the distance of two faces for one label map (Yang et al. 2019), [B]."""
    return -distance(first, second)


def msgan(first: tf.Tensor, second: tf.Tensor, latents: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The reciprocal of two faces' distance relative to that of their latents (Mao 2019), [B].

    Computed for each pair, so that the loss does not depend on how a batch is split over devices;
    MSGAN's code divides means over the batch.
    """
    return 1.0 / (distance(first, second) / distance(*latents) + 1e-5)
