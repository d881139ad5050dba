"""Losses of SARGAN: StarGAN's WGAN-GP with classification and cycle reconstruction.

And, in the place of WGAN-GP and classification, those of a multi-task discriminator.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfface.config import ClassifierOptions


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
        real: Pictures [B,S,S,3].
        fake: Pictures [B,S,S,3].
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

    One pass over all, as no layer mixes pictures.

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
        real: Pictures [B,S,S,3].
        fake: Pictures [B,S,S,3].
        expression: Class indices [B] of the real pictures.
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
        fake: Pictures G(x,t) [B,S,S,3].
        target: Class indices t [B].
    """
    logits = class_logits(discriminator, fake)
    return tf.reduce_mean(tf.nn.softplus(-_logit(logits, target)))


def _logit(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logits [B] of class indices [B], of [B,N]."""
    return tf.gather(logits, labels, axis=1, batch_dims=1)


def noisy(pictures: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Pictures under the batch's `noise`, if it has any (ours)."""
    return pictures + batch["noise"] if "noise" in batch else pictures


def examples(discriminator, pictures: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Real pictures as a discriminator learns their expressions from them.

    Under the batch's `noise` and made `harder` by its `attack`, if it has any (ours).
    """
    pictures = noisy(pictures, batch)
    if "attack" not in batch:
        return pictures

    def classify(x):
        return class_logits(discriminator, x)

    return harder(classify, pictures, batch["expression"], batch["attack"])


def with_targets(
    data: tf.data.Dataset,
    seed: int | None,
    start: int,
    options: ClassifierOptions,
    begin: int = 0,
) -> tf.data.Dataset:
    """Adds what the losses need, from (seed, number of the batch).

    `target` [B], a permutation of the batch's expressions; `alpha` [B,1,1,1] in [0,1), of the
    gradient penalty; and, if the options say so, `noise` [B,S,S,3] and the length of the `attack`
    [B,1,1,1].

    Args:
        data: Batches with `image` and `expression`.
        seed: As of `Source.batches`.
        start: Number of the first batch.
        options: How the discriminator learns the expressions.
        begin: The first of the steps in which it learns nothing else.
    """

    @tf.autograph.experimental.do_not_convert
    def add(number, batch):
        key = tf.stack([tf.constant(seed or 0, tf.int64), number])
        target = tf.random.experimental.stateless_shuffle(batch["expression"], key)
        alpha = tf.random.stateless_uniform([tf.shape(target)[0], 1, 1, 1], key)
        made = {**batch, "target": target, "alpha": alpha}
        if options.noise:
            noise = tf.random.stateless_normal(tf.shape(batch["image"]), key)
            made["noise"] = options.noise * noise
        if options.attack:
            made["attack"] = attack_lengths(number - begin, options.attack, options.steps, alpha)
        return made

    return data.enumerate(start).map(add)


def attack_lengths(number: tf.Tensor, length: float, first: int, like: tf.Tensor) -> tf.Tensor:
    """How far a batch's examples are moved by `harder`, of the shape of `like`.

    Nothing in the first quarter of the steps in which the discriminator learns the expressions
    alone, or it would never begin to; from then on more, up to `length` after five eighths of them.

    Args:
        number: The step, counted from the first of these steps, int64 [].
        length: The full length.
        first: How many such steps there are; 0: the length is full from the beginning.
        like: Any tensor.
    """
    share = (8.0 * tf.cast(number, tf.float32) / first - 2.0) / 3.0 if first else tf.constant(1.0)
    return tf.fill(tf.shape(like), length * tf.clip_by_value(share, 0.0, 1.0))


def harder(
    classify: Callable[[tf.Tensor], tf.Tensor],
    pictures: tf.Tensor,
    labels: tf.Tensor,
    length: tf.Tensor,
) -> tf.Tensor:
    """Pictures one step up the gradient of their classification loss: adversarial training.

    The fast gradient method (Goodfellow et al. 2015), its steps measured by their L2 norm (Miyato
    et al. 2017). A classifier trained on these has gradients along what people see of a class
    (Tsipras et al. 2019), which is what a generator needs.

    Args:
        classify: Pictures [B,S,S,3] to logits [B,N].
        pictures: [B,S,S,3].
        labels: Class indices [B].
        length: Euclidean length of the step over all pixels and channels, [B,1,1,1].

    Returns:
        Pictures of the same shape, without a gradient.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pictures)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, classify(pictures))
    gradient = tape.gradient(loss, pictures)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True) + 1e-20)
    return tf.stop_gradient(pictures + length * gradient / norm)
