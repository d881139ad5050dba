"""Adversarial loss terms of methods that edit expressions, for one discriminator.

Either StarGAN's (Choi et al. 2018), WGAN-GP plus classification, or those of a multi-task
discriminator.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.losses.augment import diff_augment


def class_logits(discriminator, images: tf.Tensor) -> tf.Tensor:
    """Expression logits of images [B,S,S,3]: the discriminator's last or only output.

    [B,N], or [B,H,N] of a discriminator with H heads, whose losses are averaged.
    """
    return tf.nest.flatten(discriminator(images, training=True))[-1]


def classification(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy of logits with class indices, averaged over the heads if there are any.

    Args:
        labels: [B], or [B,M] of M classifications of each image.
        logits: [B,N] or [B,M,N]; of a discriminator with H heads [B,H,N] or [B,H,M,N].
    """
    return tf.reduce_mean(_cross_entropy(labels, logits))


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Of each image and head, see `classification`: [B] or [B,H], or with M at the end."""
    if logits.shape.rank > labels.shape.rank + 1:
        labels = tf.repeat(labels[:, None], logits.shape[1], 1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


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


def discriminate(
    discriminator, batches: list[tf.Tensor], classified: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Realness maps of each batch, and expression logits of the images to classify.

    All images go through the network in one pass, as no layer mixes images.

    Args:
        discriminator: Returns (realness, logits).
        batches: Batches [B,S,S,3] of one size.
        classified: Images to classify, [B,S,S,3]; may be the first of `batches`.
    """
    same = classified is batches[0]
    inputs = batches if same else [*batches, classified]
    realness, logits = discriminator(tf.concat(inputs, 0), training=True)
    logits = tf.split(logits, len(inputs))[0 if same else -1]
    return tf.split(realness, len(inputs))[: len(batches)], logits


def discriminator_terms(
    adversarial: str,
    discriminator,
    real: tf.Tensor,
    fake: tf.Tensor,
    batch: dict[str, tf.Tensor],
    augment: tuple[str, ...] = (),
    penalty: bool = True,
) -> dict[str, tf.Tensor]:
    """Terms of a discriminator, by name.

    D(x) is the realness map, C(x) are the expression logits, y is the expression of x:

        real = -E D(x)             StarGAN's equation 8
        fake = E D(G(x,t))         the same
        gp   = `gradient_penalty`  the same
        cls  = E CE(C(x), y)       StarGAN's equation 2, L_cls^r

    Args:
        adversarial: "wgan-gp", or "multitask" for the terms of `multitask_discriminator`.
        discriminator: Returns (realness, logits), or only logits for "multitask".
        real: Images x [B,S,S,3].
        fake: Images G(x,t) [B,S,S,3], without a gradient.
        batch: `expression` and `target` [B], and the entries added by `tfface.methods.targets`.
        augment: Kinds of `diff_augment`, of the real and the generated images.
        penalty: Whether "multitask" has the term `r1`.
    """
    real, fake = augmented(real, augment, batch, 0), augmented(fake, augment, batch, 1)
    if adversarial == "multitask":
        return multitask_discriminator(
            discriminator, real, fake, batch["expression"], batch["target"], penalty
        )
    (real_map, fake_map), logits = discriminate(
        discriminator, [real, fake], classifier_examples(discriminator, real, batch)
    )
    return {
        "real": -tf.reduce_mean(real_map),
        "fake": tf.reduce_mean(fake_map),
        "cls": classification(batch["expression"], logits),
        "gp": gradient_penalty(discriminator, real, fake, batch["alpha"]),
    }


def discriminator_total(terms: dict[str, tf.Tensor], weights) -> tf.Tensor:
    """The loss of a discriminator, the weighted sum of its terms.

    Args:
        terms: As from `discriminator_terms`.
        weights: Has the attribute `r1` if there is this term; for "cls" `classification_real`, for
            "gp" `gradient_penalty`.
    """
    names = {"cls": "classification_real", "gp": "gradient_penalty", "r1": "r1"}
    return tf.add_n(
        [getattr(weights, names[k]) * term if k in names else term for k, term in terms.items()]
    )


def generator_terms(
    adversarial: str,
    discriminator,
    fake: tf.Tensor,
    batch: dict[str, tf.Tensor],
    augment: tuple[str, ...] = (),
) -> dict[str, tf.Tensor]:
    """Terms of a generator against a discriminator; arguments as for `discriminator_terms`.

    fake = -E D(G(x,t))          StarGAN's equation 8; or `multitask_generator`
    cls  = E CE(C(G(x,t)), t)    StarGAN's equation 3, L_cls^f; not for "multitask"
    """
    fake = augmented(fake, augment, batch, 1)
    if adversarial == "multitask":
        return {"fake": multitask_generator(discriminator, fake, batch["target"])}
    (fake_map,), logits = discriminate(discriminator, [fake], add_noise(fake, batch))
    return {
        "fake": -tf.reduce_mean(fake_map),
        "cls": classification(batch["target"], logits),
    }


def classifier_term(
    discriminator, real: tf.Tensor, batch: dict[str, tf.Tensor], augment: tuple[str, ...] = ()
) -> tf.Tensor:
    """E CE(C(x), y) on `classifier_examples`, for steps that only train the classifier (ours)."""
    real = augmented(real, augment, batch, 0)
    logits = class_logits(discriminator, classifier_examples(discriminator, real, batch))
    return classification(batch["expression"], logits)


def augmented(
    images: tf.Tensor, kinds: tuple[str, ...], batch: dict[str, tf.Tensor], draw: int
) -> tf.Tensor:
    """Images after `diff_augment` with the random numbers `draw`, 0 or 1, of the batch."""
    return diff_augment(images, kinds, batch["augment"][:, draw]) if kinds else images


def multitask_discriminator(
    discriminator,
    real: tf.Tensor,
    fake: tf.Tensor,
    expression: tf.Tensor,
    target: tf.Tensor,
    penalty: bool = True,
) -> dict[str, tf.Tensor]:
    """Terms of a discriminator that decides whether a face is real, given its expression.

    D_k(x) is the logit of expression k, y the expression of x, t the target, G(x,t) the fake:

        real  = E softplus(-D_y(x))
        fake  = E softplus(D_t(G(x,t)))
        wrong = E mean_{k != y} softplus(D_k(x))
        r1    = E |grad_x D_y(x)|^2 / 2

    `real` and `fake` are those of the multi-task discriminator of Liu et al. 2019 (FUNIT) in the
    form of StarGAN v2 (Choi et al. 2020, equation 1); `r1` is equation 9 of Mescheder et al. 2018.
    `wrong` is ours: real faces under the labels of other expressions are negatives, so that a face
    has to show its label. The terms are averaged over the heads of a discriminator, but `r1` is of
    the sum of their logits.

    Args:
        discriminator: Returns logits as its only or its last output, see `class_logits`.
        real: Images [B,S,S,3].
        fake: Images [B,S,S,3].
        expression: Class indices [B] of the real images.
        target: Class indices [B] of the fake ones.
        penalty: Whether to compute `r1`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        if penalty:
            tape.watch(real)
        logits = class_logits(discriminator, real)
        own = _logit(logits, expression)
    fake_logit = _logit(class_logits(discriminator, fake), target)
    others = tf.reduce_sum(tf.nn.softplus(logits), -1) - tf.nn.softplus(own)
    terms = {
        "real": tf.reduce_mean(tf.nn.softplus(-own)),
        "fake": tf.reduce_mean(tf.nn.softplus(fake_logit)),
        "wrong": tf.reduce_mean(others) / (logits.shape[-1] - 1),
    }
    if penalty:
        squares = tf.square(tape.gradient(own, real))
        terms["r1"] = 0.5 * tf.reduce_mean(tf.reduce_sum(squares, axis=(1, 2, 3)))
    return terms


def multitask_generator(discriminator, fake: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """E softplus(-D_t(G(x,t))), the non-saturating form of StarGAN v2's equation 1.

    Args:
        discriminator: As for `multitask_discriminator`.
        fake: Images G(x,t) [B,S,S,3].
        target: Class indices t [B].
    """
    logits = class_logits(discriminator, fake)
    return tf.reduce_mean(tf.nn.softplus(-_logit(logits, target)))


def _logit(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """From logits [B,N] or [B,H,N], those of the class indices [B]: [B] or [B,H]."""
    return tf.gather(logits, labels, axis=-1, batch_dims=1)


def add_noise(images: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Images plus the batch's `noise`, if it has any, cut to their size (ours)."""
    if "noise" not in batch:
        return images
    return images + batch["noise"][:, : images.shape[1], : images.shape[2]]


def classifier_examples(discriminator, images: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Real images from which a discriminator learns to classify expressions.

    With the batch's `noise` added, then perturbed by `fast_gradient` with the length `attack`, if
    the batch has these entries (ours).
    """
    images = add_noise(images, batch)
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
    """Images moved one step up the gradient of their classification loss: adversarial training.

    The fast gradient method (Goodfellow et al. 2015) with steps of a given L2 norm (Miyato et al.
    2017). The gradients of a classifier trained on such images align with visible features of a
    class (Tsipras et al. 2019), which is what a generator needs.

    Args:
        classify: Maps images [B,S,S,3] to logits [B,N] or [B,H,N].
        images: [B,S,S,3].
        labels: Class indices [B].
        length: Euclidean length of the step over all pixels and channels, [B,1,1,1].

    Returns:
        Images of the same shape, without a gradient.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss = _cross_entropy(labels, classify(images))
    gradient = tape.gradient(loss, images)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True) + 1e-20)
    return tf.stop_gradient(images + length * gradient / norm)
