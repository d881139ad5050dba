"""The objective of mask-guided synthesis: that of StarGAN v2 (its code, `core/solver.py`).

The image's reconstruction stands in place of its cycle, and the diversity may be MSGAN's. The
paper's abstract names no losses of its own.

m is a label map and x its image; F makes a style code of a latent z (style encoder), E of a face
(style decoder), G(m,s) is the face made, D the discriminator. Choi et al. 2020, equations 1 to 5.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.data.label_map_ops import one_hot
from tfface.data.label_maps import CLASSES_19
from tfface.losses.regions import distance, region_distance
from tfface.methods.base import Batch, Losses, Method, Networks


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN v2's equation 1, and R1: softplus(-D(x)) + softplus(D(G(m,s))) + gamma R1."""
    weights, given = method.config.weights, one_hot(batch["label_map"])
    codes = [nets["style_encoder"](batch["latents"][:, 0], training=True)]
    if method.config.reference_step:
        codes.append(reference_style(nets, batch, 0))
    givens = tf.concat([given] * len(codes), 0)
    made = nets["generator"]([givens, tf.concat(codes, 0)])
    made_logits = method.judge(nets, tf.stop_gradient(made), givens)
    r1, logits = r1_penalty(lambda x: method.judge(nets, x, given), batch["image"])
    terms = {
        "real": adversarial(logits, real=True),
        "fake": adversarial(made_logits, real=False),
        "r1": r1,
    }
    return terms["real"] + terms["fake"] + weights.r1 * terms["r1"], terms


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """StarGAN v2's equation 5, L_adv + lambda_sty L_sty - lambda_ds L_ds + lambda_cyc L_cyc.

    With the image's reconstruction for L_cyc. `diversity` has the sign of a loss.
    """
    c, weights, image = method.config, method.config.weights, batch["image"]
    given = one_hot(batch["label_map"])
    latents = tf.unstack(batch["latents"], axis=1)
    code, other = (nets["style_encoder"](z, training=True) for z in latents)
    own = nets["style_decoder"](image, training=True)
    codes, others = [code], [other]
    if c.reference_step:
        # The first of the others is a constant, too: only the generator learns from these.
        codes.append(reference_style(nets, batch, 0))
        others.append(reference_style(nets, batch, 1))
    count = len(codes)
    givens = tf.concat([given] * count, 0)
    made = nets["generator"](
        [tf.concat([givens, given], 0), tf.concat([*codes, own], 0)], training=True
    )
    made, rebuilt = made[: -tf.shape(given)[0]], made[-tf.shape(given)[0] :]
    found = nets["style_decoder"](made, training=True)
    terms = {
        "adversarial": adversarial(method.judge(nets, made, givens), real=True),
        "style": style(found, tf.concat(codes, 0)),
        "rec": reconstruction(rebuilt, image, batch["label_map"], c.region_balance),
    }
    total = (
        terms["adversarial"]
        + weights.style * terms["style"]
        + weights.reconstruction * terms["rec"]
    )
    if weights.diversity:
        second = nets["generator"]([givens, tf.concat(others, 0)], training=True)
        second = tf.stop_gradient(second)
        terms["diversity"] = diversity(c.diversity, made, second, latents, batch["diversity"])
        total += weights.diversity * terms["diversity"]
    return total, terms


def reference_style(nets: Networks, batch: Batch, index: int) -> tf.Tensor:
    """Codes [B,D] of the references of this index, as constants."""
    code = nets["style_decoder"](batch["references"][:, index], training=True)
    return tf.stop_gradient(code)


def style(found: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """E |s - E(G(m,s))|_1 of codes [B,D]; StarGAN v2's equation 2."""
    return tf.reduce_mean(tf.abs(found - codes))


def reconstruction(
    rebuilt: tf.Tensor, image: tf.Tensor, label_map: tf.Tensor, balance: float
) -> tf.Tensor:
    """E |x - G(m,E(x))|_1, in place of StarGAN v2's equation 4; `balance` as `region_distance`."""
    return tf.reduce_mean(region_distance(rebuilt, image, label_map, len(CLASSES_19), balance))


def diversity(
    kind: str,
    made: tf.Tensor,
    second: tf.Tensor,
    latents: list[tf.Tensor],
    weight: tf.Tensor,
) -> tf.Tensor:
    """The loss of two faces of one map that look alike; "dsgan" is StarGAN v2's equation 3.

    Args:
        kind: "dsgan" or "msgan".
        made: Images [k B,S,S,3]: from latents, and then perhaps from references.
        second: Others of the same maps.
        latents: Those of both, [B,Z].
        weight: The step's weight, [B].
    """
    size = tf.shape(weight)[0]
    if kind == "dsgan":
        count = tf.shape(made)[0] // size
        return tf.reduce_mean(dsgan(made, second) * tf.tile(weight, [count]))
    # Only faces from latents have any whose distance theirs could be compared with.
    return tf.reduce_mean(msgan(made[:size], second[:size], latents) * weight)


def adversarial(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean softplus of -+ logits [B]: cross entropy to "real", or to "made" (Goodfellow 2014).

    The generator's loss is that of its images called real (the non-saturating form).
    """
    return tf.reduce_mean(tf.nn.softplus(-logits if real else logits))


def r1_penalty(judge: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor) -> tuple:
    """Half the squared gradient of the logits on real images (Mescheder et al. 2018, R1).

    Args:
        judge: Images [B,S,S,3] to logits [B].
        real: Images [B,S,S,3].

    Returns:
        The penalty, summed over pixels and channels, a mean over the batch; and the logits.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        logits = judge(real)
        total = tf.reduce_sum(logits)
    gradient = tape.gradient(total, real)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))), logits


def dsgan(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Less the distance of two faces of one label map (Yang et al. 2019), [B]; unbounded below."""
    return -distance(first, second)


def msgan(first: tf.Tensor, second: tf.Tensor, latents: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The reciprocal of two faces' distance relative to that of their latents (Mao 2019), [B].

    Of each pair, where MSGAN's code divides means over the batch: the loss then does not depend on
    how a batch is spread over devices.
    """
    return 1.0 / (distance(first, second) / distance(*latents) + 1e-5)
