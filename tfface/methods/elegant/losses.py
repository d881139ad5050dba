"""The objective of ELEGANT: paper equations 4 to 7, with the weights of the authors' code.

A has an attribute and B lacks it; A1 and B1 are their reconstructions, C and D the images after the
exchange (of A and of B); y_A to y_D are the attributes. The "multitask" discriminator and its terms
are ours.
"""

from __future__ import annotations

import tensorflow as tf

from tfface.losses.expressions import classification, discriminator_total
from tfface.methods.base import Batch, Losses, Method, Networks


def discriminator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """Paper equation 5 for the discriminators of full and half size, averaged over its 4 parts.

    L_D1 = -E log D1(A|y_A) - E log D1(B|y_B) - E log(1 - D1(C|y_C)) - E log(1 - D1(D|y_D))
    """
    weights = method.config.weights
    fakes = [tf.stop_gradient(batch[name]) for name in ("C", "D")]
    if method.multitask:
        real, labels = concat_sides(batch, "A", "B"), concat_sides(batch, "y_A", "y_B")
        attribute = tf.tile(batch["attribute"], [2])
        fake = tf.concat(fakes, 0)
        terms = multitask(nets["disc1"], real, labels, fake, attribute, weights.r1 > 0)
        without_penalty = terms["real"] + terms["wrong"] + terms["fake"]
        return discriminator_total(terms, weights), {**terms, "disc1": without_penalty}
    y_c, y_d = method.exchanged_labels(batch)
    images, labels = [batch["A"], batch["B"], *fakes], [batch["y_A"], batch["y_B"], y_c, y_d]
    logits = discriminate(nets, images, labels)
    terms = {
        name: bce(a, True) + bce(b, True) + bce(c, False) + bce(d, False)
        for name, (a, b, c, d) in logits.items()
    }
    return (terms["disc1"] + weights.half_size * terms["disc2"]) / 4.0, terms


def attributes_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """Cross-entropy of the attributes of real faces, for `attributes_first` (ours)."""
    logits = nets["disc1"](concat_sides(batch, "A", "B"), training=True)
    labels = tf.cast(concat_sides(batch, "y_A", "y_B"), tf.int32)
    loss = classification(labels, logits)
    return loss, {"disc1": loss}


def generator_loss(method: Method, nets: Networks, batch: Batch) -> Losses:
    """Paper equation 7, L_G = L_reconstruction + L_adv, with its equations 4 and 6.

    L_reconstruction = |A - A1| + |B - B1|
    L_adv            = -E log D1(C|y_C) - E log D1(D|y_D), and the same for D2

    Ours are the optional terms |A - C| + |B - D| (change) and |A - A2| + |B - B2| (restoration),
    where A2 and B2 are C and D with the codes of A and B, each in the colours of the other.
    """
    weights = method.config.weights
    y_c, y_d = method.exchanged_labels(batch)
    terms = {"reconstruction": mse(batch["A1"], batch["A"]) + mse(batch["B1"], batch["B"])}
    total = weights.reconstruction * terms["reconstruction"]
    if method.multitask:
        logits = nets["disc1"](concat_sides(batch, "C", "D"), training=True)
        target = logits_of(logits, tf.tile(batch["attribute"], [2]), tf.concat([y_c, y_d], 0))
        terms["adv1"] = tf.reduce_mean(tf.nn.softplus(-target))
        total += terms["adv1"]
    else:
        logits = discriminate(nets, [batch["C"], batch["D"]], [y_c, y_d])
        for name, (c, d) in zip(("adv1", "adv2"), logits.values(), strict=True):
            terms[name] = bce(c, True) + bce(d, True)
        total += terms["adv1"] + weights.half_size * terms["adv2"]
    if weights.change:
        images, exchanged = concat_sides(batch, "A", "B"), concat_sides(batch, "C", "D")
        terms["change"] = mae(exchanged, images)
        total += weights.change * terms["change"]
    if weights.restoration:
        restored = concat_sides(batch, "A2", "B2")
        terms["restoration"] = mae(restored, concat_sides(batch, "A", "B"))
        total += weights.restoration * terms["restoration"]
    return total, terms


def discriminate(nets: Networks, images: list, labels: list) -> dict[str, list]:
    """Logits of both discriminators for several batches, in one pass through each."""
    image, label = tf.concat(images, 0), tf.concat(labels, 0)
    half = tf.nn.avg_pool2d(image, 2, 2, "VALID")
    logits = {
        "disc1": nets["disc1"]([image, label], training=True),
        "disc2": nets["disc2"]([half, label], training=True),
    }
    return {name: tf.split(values, len(images)) for name, values in logits.items()}


def concat_sides(tensors: Batch, first: str, second: str) -> tf.Tensor:
    """Two named tensors, one for each side of the pairs, as one batch."""
    return tf.concat([tensors[first], tensors[second]], 0)


def bce(logits: tf.Tensor, real: bool) -> tf.Tensor:
    """Mean binary cross-entropy of logits against 1 (real) or 0; paper equations 5 and 6."""
    labels = tf.ones_like(logits) if real else tf.zeros_like(logits)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def mse(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean squared error, as in the authors' code; the paper's equation 4 writes a norm."""
    return tf.reduce_mean(tf.math.squared_difference(a, b))


def mae(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean absolute error (for our terms)."""
    return tf.reduce_mean(tf.abs(a - b))


def logits_of(logits: tf.Tensor, attribute: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Selects logits [B] from [B,N,2]: of attribute [B], with its value in labels [B,N].

    Of a discriminator with heads, [B,H] from [B,H,N,2].
    """
    value = tf.gather(tf.cast(labels, tf.int32), attribute, batch_dims=1)
    of_attribute = tf.gather(logits, attribute, axis=-2, batch_dims=1)
    return tf.gather(of_attribute, value, axis=-1, batch_dims=1)


def multitask(
    discriminator,
    real: tf.Tensor,
    labels: tf.Tensor,
    fake: tf.Tensor,
    attribute: tf.Tensor,
    penalty: bool = True,
) -> dict[str, tf.Tensor]:
    """Losses of the "multitask" discriminator for one attribute per example.

    D_{i,v}(x) is the logit of "real, with value v of attribute i"; v is the value of the real face
    x, and x' is the face after the exchange:

        real  = E softplus(-D_{i,v}(x))
        wrong = E softplus(D_{i,1-v}(x))       real faces under the wrong label
        fake  = E softplus(D_{i,1-v}(x'))
        r1    = E |grad_x D_{i,v}(x)|^2 / 2    Mescheder et al. 2018

    The terms are averaged over the heads of a discriminator, but `r1` is of the sum of their
    logits.

    Args:
        discriminator: Maps images [B,S,S,3] to logits [B,N,2] or [B,H,N,2].
        real: Images [B,S,S,3].
        labels: Their attributes [B,N].
        fake: `real` with the attribute exchanged.
        attribute: Attribute indices [B].
        penalty: Whether to compute `r1`.

    Returns:
        The terms by name.
    """
    exchanged = 1.0 - labels  # Only the entry of the attribute itself is used.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        if penalty:
            tape.watch(real)
        logits = discriminator(real, training=True)
        own = logits_of(logits, attribute, labels)
    wrong = logits_of(logits, attribute, exchanged)
    generated = logits_of(discriminator(fake, training=True), attribute, exchanged)
    terms = {
        "real": tf.reduce_mean(tf.nn.softplus(-own)),
        "wrong": tf.reduce_mean(tf.nn.softplus(wrong)),
        "fake": tf.reduce_mean(tf.nn.softplus(generated)),
    }
    if penalty:
        squares = tf.square(tape.gradient(own, real))
        terms["r1"] = 0.5 * tf.reduce_mean(tf.reduce_sum(squares, axis=(1, 2, 3)))
    return terms
