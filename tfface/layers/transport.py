"""Differentiable top-k as entropy-regularised optimal transport (Xie et al. 2020, "SOFT top-k").

Scores s_i in [-1,1] are transported to two anchors, "selected" (cost (1 - s_i)^2) and "rejected"
(cost s_i^2), with mass k of n at the first. Both costs are divided by 4, their largest possible
value, so that a row does not depend on the other rows of a batch. A_i is the share of score i that
is selected: 0 <= A_i <= 1, and the A_i sum to k.

With two anchors the converged plan has a closed form, A_i = sigmoid(s_i / t + m), with the
temperature t = 2 epsilon and the unique m for which the sum is k, because the two costs differ by
(1 - 2 s_i) / 4. `soft_top_k` solves for m and has the exact gradient. `sinkhorn_top_k` iterates, as
the method's relatives do, and converges to the same plan.
"""

from __future__ import annotations

import math

import tensorflow as tf

_MAX_COST = 4.0  # (1 - s)^2 at s = -1.
_SEARCH = 40  # Maximum steps of the search for m; a bisection step halves the interval.


def soft_top_k(scores: tf.Tensor, k: int, epsilon: float) -> tf.Tensor:
    """The converged plan in closed form, with the gradient of the plan itself.

    dA/ds = (diag(d) - d d^T / sum(d)) / t with d = A (1 - A), by the implicit function theorem.

    Args:
        scores: float [...,n], cosines in [-1,1]. Half precisions are computed in float32.
        k: Number of scores to select, 1 to n.
        epsilon: Weight of the entropy, above 0; smaller values are closer to a hard top-k.

    Returns:
        A [...,n], float32 (float64 for float64 scores).
    """
    scores = _full(scores)
    if k >= scores.shape[-1]:
        return tf.ones_like(scores)
    gain = 1.0 / (2.0 * epsilon)  # 1 / t

    @tf.custom_gradient
    def plan(scores):
        x = gain * scores
        # Start halfway between the k-th and the next score: exact for a hard top-k.
        last = tf.math.top_k(scores, k + 1).values[..., -2:]
        z = x + _offset(x, k, -0.5 * gain * tf.reduce_sum(last, -1, keepdims=True))

        def gradient(upstream):
            d = tf.sigmoid(z) * tf.sigmoid(-z)
            total = tf.reduce_sum(d, -1, keepdims=True)
            mean = tf.math.divide_no_nan(tf.reduce_sum(d * upstream, -1, keepdims=True), total)
            return gain * d * (upstream - mean)

        return tf.sigmoid(z), gradient

    return plan(scores)


def _offset(x: tf.Tensor, k: int, start: tf.Tensor) -> tf.Tensor:
    """Solves sum(sigmoid(x + m)) = k for m [...,1], starting at `start`.

    Newton's method on log(sum), which is nearly linear in m while most scores are far from
    selected; bisection where a Newton step would leave the interval.
    """
    n = x.shape[-1]
    target = tf.cast(k, x.dtype)
    # sigmoid(z) < exp(z) bounds m from below, the smallest x from above.
    low = tf.math.log(target) - tf.reduce_logsumexp(x, -1, keepdims=True)
    high = math.log(k / (n - k)) - tf.reduce_min(x, -1, keepdims=True)
    tolerance = (1e-10 if x.dtype == tf.float64 else 1e-5) * target

    def improve(low, high, m, _):
        a = tf.sigmoid(x + m)
        total = tf.reduce_sum(a, -1, keepdims=True)
        slope = total - tf.reduce_sum(a * a, -1, keepdims=True)
        low, high = tf.where(total < target, m, low), tf.where(total < target, high, m)
        newton = m + tf.math.log(target / total) * tf.math.divide_no_nan(total, slope)
        inside = (newton >= low) & (newton <= high) & (slope > 0)
        error = tf.abs(total - target)
        # Without a usable slope, a converged row keeps its m and any other is bisected.
        other = tf.where(error <= tolerance, m, 0.5 * (low + high))
        return low, high, tf.where(inside, newton, other), tf.reduce_max(error)

    # The loop tests the error before its last step, which reduces it much further.
    return tf.while_loop(
        lambda low, high, m, error: error > tolerance,
        improve,
        (low, high, tf.clip_by_value(start, low, high), tf.constant(math.inf, x.dtype)),
        maximum_iterations=_SEARCH,
    )[2]


def sinkhorn_top_k(scores: tf.Tensor, k: int, epsilon: float, iterations: int) -> tf.Tensor:
    """The plan by Sinkhorn iterations in the log domain, differentiated through all of them.

    Args:
        scores: As for `soft_top_k`.
        k: As for `soft_top_k`.
        epsilon: As for `soft_top_k`.
        iterations: At least 1. A smaller epsilon needs more; with too few, some A_i exceed 1,
            although their sum is k after any number.

    Returns:
        A [...,n], float32 (float64 for float64 scores).
    """
    scores = _full(scores)
    n = scores.shape[-1]
    if k >= n:
        return tf.ones_like(scores)
    cost = tf.stack([tf.square(1.0 - scores), tf.square(scores)], -1)
    kernel = -cost / (_MAX_COST * epsilon)  # [...,n,2]
    shares = tf.constant([[math.log(k / n), math.log(1.0 - k / n)]], scores.dtype)
    columns = tf.zeros_like(kernel[..., :1, :])
    for _ in range(iterations):
        rows = -math.log(n) - tf.reduce_logsumexp(kernel + columns, -1, keepdims=True)
        columns = shares - tf.reduce_logsumexp(kernel + rows, -2, keepdims=True)
    return n * tf.exp((kernel + rows + columns)[..., 0])


def _full(scores: tf.Tensor) -> tf.Tensor:
    scores = tf.convert_to_tensor(scores)
    return scores if scores.dtype == tf.float64 else tf.cast(scores, tf.float32)
