"""Terms of discriminators of expressions, and of generators against them, one discriminator each.

Those of StarGAN (Choi et al. 2018): WGAN-GP, and classification. And, in their place, those of a
multi-task discriminator.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def class_logits(discriminator, images: tf.Tensor) -> tf.Tensor:
    """Expression logits [B,N] of images [B,S,S,3]: the last output, or the only one."""
    return tf.nest.flatten(discriminator(images, training=True))[-1]


def classification(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross entropy of expression logits [B,N] with class indices [B]."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def gradient_penalty(
    discriminator, real: tf.Tensor, fake: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """E[(|grad D(x_hat)|_2 - 1)^2] on x_hat = alpha * real + (1 - alpha) * fake.

    Args:
        discriminator: Returns (realness, logits); the realness map is summed, as the authors do.
        real: Images [B,S,S,3].
        fake: Images [B,S,S,3].
        alpha: Mixing weights [B,1,1,1] in [0,1].
    """
    mixed = alpha * real + (1.0 - alpha) * fake
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(mixed)
        realness, _ = discriminator(mixed, training=True)
    gradient = tape.gradient(realness, mixed)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)) + 1e-12)
    return tf.reduce_mean(tf.square(norm - 1.0))


def judge(
    discriminator, judged: list[tf.Tensor], classified: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Realness maps of each of the `judged` batches, and expression logits of `classified`.

    One pass over all, as no layer mixes images.

    Args:
        discriminator: Returns (realness, logits).
        judged: Batches [B,S,S,3] of one size.
        classified: [B,S,S,3]; may be the first of the judged.
    """
    same = classified is judged[0]
    passed = judged if same else [*judged, classified]
    realness, logits = discriminator(tf.concat(passed, 0), training=True)
    logits = tf.split(logits, len(passed))[0 if same else -1]
    return tf.split(realness, len(passed))[: len(judged)], logits


def discriminator_terms(
    adversarial: str,
    discriminator,
    real: tf.Tensor,
    fake: tf.Tensor,
    batch: dict[str, tf.Tensor],
) -> dict[str, tf.Tensor]:
    """Terms of a discriminator, by name.

    D(x) is the realness map, C(x) are the logits of the expressions y:

        real = -E D(x)             StarGAN's equation 8
        fake = E D(G(x,t))         the same
        gp   = `gradient_penalty`  the same
        cls  = E CE(C(x), y)       StarGAN's equation 2, L_cls^r

    Args:
        adversarial: "wgan-gp"; or "multitask", of which the terms are `multitask_discriminator`'s.
        discriminator: Returns (realness, logits); or logits alone for "multitask".
        real: Images x [B,S,S,3].
        fake: Images G(x,t) [B,S,S,3], constants.
        batch: `expression` and `target` [B], and what `tfface.methods.targets` adds.
    """
    if adversarial == "multitask":
        return multitask_discriminator(
            discriminator, real, fake, batch["expression"], batch["target"]
        )
    (real_map, fake_map), logits = judge(
        discriminator, [real, fake], examples(discriminator, real, batch)
    )
    return {
        "real": -tf.reduce_mean(real_map),
        "fake": tf.reduce_mean(fake_map),
        "cls": classification(batch["expression"], logits),
        "gp": gradient_penalty(discriminator, real, fake, batch["alpha"]),
    }


def generator_terms(
    adversarial: str, discriminator, fake: tf.Tensor, batch: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Terms of a generator against a discriminator; arguments as of `discriminator_terms`.

    fake = -E D(G(x,t))          StarGAN's equation 8; or `multitask_generator`
    cls  = E CE(C(G(x,t)), t)    StarGAN's equation 3, L_cls^f; not for "multitask"
    """
    if adversarial == "multitask":
        return {"fake": multitask_generator(discriminator, fake, batch["target"])}
    (fake_map,), logits = judge(discriminator, [fake], noisy(fake, batch))
    return {
        "fake": -tf.reduce_mean(fake_map),
        "cls": classification(batch["target"], logits),
    }


def classifier_term(discriminator, real: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """E CE(C(x), y) of `examples`, where the discriminator learns expressions alone (ours)."""
    logits = class_logits(discriminator, examples(discriminator, real, batch))
    return classification(batch["expression"], logits)


def multitask_discriminator(
    discriminator, real: tf.Tensor, fake: tf.Tensor, expression: tf.Tensor, target: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Terms of a discriminator that judges whether a face is real, given its expression.

    D_k(x) is the logit of expression k, y the expression of x, t the target, G(x,t) the fake:

        real  = E softplus(-D_y(x))
        fake  = E softplus(D_t(G(x,t)))
        wrong = E mean_{k != y} softplus(D_k(x))
        r1    = E |grad_x D_y(x)|^2 / 2

    `real` and `fake`: the multi-task discriminator of Liu et al. 2019 (FUNIT) as StarGAN v2 has it,
    Choi et al. 2020, equation 1. `r1`: Mescheder et al. 2018, equation 9. `wrong` is ours: real
    faces under the labels of other expressions are negatives, so that a face has to show its label.

    Args:
        discriminator: Returns logits, as its only output or its last.
        real: Images [B,S,S,3].
        fake: Images [B,S,S,3].
        expression: Class indices [B] of the real images.
        target: Class indices [B] of the fake ones.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(real)
        logits = class_logits(discriminator, real)
        own = _logit(logits, expression)
    gradient = tape.gradient(own, real)
    fake_logit = _logit(class_logits(discriminator, fake), target)
    others = tf.reduce_sum(tf.nn.softplus(logits), -1) - tf.nn.softplus(own)
    return {
        "real": tf.reduce_mean(tf.nn.softplus(-own)),
        "fake": tf.reduce_mean(tf.nn.softplus(fake_logit)),
        "wrong": tf.reduce_mean(others) / (logits.shape[-1] - 1),
        "r1": 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))),
    }


def multitask_generator(discriminator, fake: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """E softplus(-D_t(G(x,t))), the non-saturating form of StarGAN v2's equation 1.

    Args:
        discriminator: As of `multitask_discriminator`.
        fake: Images G(x,t) [B,S,S,3].
        target: Class indices t [B].
    """
    logits = class_logits(discriminator, fake)
    return tf.reduce_mean(tf.nn.softplus(-_logit(logits, target)))


def _logit(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logits [B] of class indices [B], of [B,N]."""
    return tf.gather(logits, labels, axis=1, batch_dims=1)


def noisy(images: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Images under the batch's `noise`, if it has any (ours)."""
    return images + batch["noise"] if "noise" in batch else images


def examples(discriminator, images: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Real images as a discriminator learns their expressions from them.

    Under the batch's `noise` and made `fast_gradient` by its `attack`, if it has any (ours).
    """
    images = noisy(images, batch)
    if "attack" not in batch:
        return images

    def classify(x):
        return class_logits(discriminator, x)

    return fast_gradient(classify, images, batch["expression"], batch["attack"])


def fast_gradient(
    classify: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    labels: tf.Tensor,
    length: tf.Tensor,
) -> tf.Tensor:
    """Images one step up the gradient of their classification loss: adversarial training.

    The fast gradient method (Goodfellow et al. 2015), its steps measured by their L2 norm (Miyato
    et al. 2017). A classifier trained on these has gradients along what people see of a class
    (Tsipras et al. 2019), which is what a generator needs.

    Args:
        classify: Images [B,S,S,3] to logits [B,N].
        images: [B,S,S,3].
        labels: Class indices [B].
        length: Euclidean length of the step over all pixels and channels, [B,1,1,1].

    Returns:
        Images of the same shape, without a gradient.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, classify(images))
    gradient = tape.gradient(loss, images)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True) + 1e-20)
    return tf.stop_gradient(images + length * gradient / norm)
