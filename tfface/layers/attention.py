"""Attention from one feature map to another, dense or over a few retrieved blocks."""

from __future__ import annotations

import keras
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from tfface.layers.blocks import merge_blocks, partition_blocks
from tfface.layers.transport import sinkhorn_top_k, soft_top_k

_WEIGHT_FLOOR = 1e-6  # Added to a block's weight before its logarithm.
_CHUNK_BYTES = 2**26  # Size of the gathered keys and values held at a time.


def unit(x: tf.Tensor) -> tf.Tensor:
    """Features [...,C], centred over C and scaled to length 1, so that dot products are cosines.

    Computed in float32; float64 stays float64.
    """

    @tf.custom_gradient
    def run(x):
        x -= tf.reduce_mean(x, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_sum(x * x, -1, keepdims=True) + 1e-12)
        y = x * scale

        def gradient(upstream):
            # Written out: half as many passes over a large map as the automatic gradient.
            along = tf.reduce_sum(upstream * y, -1, keepdims=True)
            mean = tf.reduce_mean(upstream, -1, keepdims=True)
            return (upstream - mean - along * y) * scale

        return y, gradient

    return run(x if x.dtype == tf.float64 else tf.cast(x, tf.float32))


def dense_attention(query, key, value, temperature: float) -> tf.Tensor:
    """Every pixel attends to all pixels, which needs (HW)^2 weights per image.

    Args:
        query: Unit features [B,H,W,C].
        key: Unit features [B,H',W',C].
        value: [B,H',W',V].
        temperature: Temperature of the softmax over cosines.

    Returns:
        [B,H,W,V].
    """
    _, height, width, channels = query.shape
    q = tf.reshape(query / temperature, (-1, height * width, channels))
    k = tf.reshape(key, (-1, key.shape[1] * key.shape[2], channels))
    v = tf.reshape(value, (-1, value.shape[1] * value.shape[2], value.shape[-1]))
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    return tf.reshape(tf.matmul(weights, v), (-1, height, width, value.shape[-1]))


def block_attention(query, key, value, index, bias, temperature: float) -> tf.Tensor:
    """Every pixel attends to the pixels of the k blocks that were retrieved for its own block.

    Keys and values are gathered for a chunk of query blocks at a time, and again for the gradient,
    so that at most 64 MiB of them are held instead of all k copies.

    Args:
        query: [B,M,P,C], as from `partition_blocks`.
        key: [B,N,Q,C].
        value: [B,N,Q,V].
        index: int32 [B,M,k], the blocks of `key` and `value` retrieved for each query block.
        bias: [B,M,k], added to the logits of all pixels of a retrieved block.
        temperature: Temperature of the softmax over cosines.

    Returns:
        [B,M,P,V].
    """
    blocks, retrieved = index.shape[1:]
    _, count, pixels, channels = key.shape
    width = value.shape[-1]
    # The blocks of all images along one axis, so that a chunk may hold blocks of several images.
    offset = tf.range(tf.shape(key)[0], dtype=index.dtype)[:, None, None] * count
    index = tf.reshape(index + offset, (-1, retrieved))
    bytes_each = retrieved * pixels * (channels + width) * query.dtype.size
    chunk = _divisor(blocks, max(_CHUNK_BYTES // bytes_each, 1))

    def gathered(table, rows):
        return tf.reshape(tf.gather(table, rows), (chunk, retrieved * pixels, table.shape[-1]))

    @tf.custom_gradient
    def run(q, k, v, b):
        chunks = tf.shape(q)[0] // chunk
        split = [tf.reshape(x, (-1, chunk, *x.shape[1:])) for x in (q, b, index)]

        def forward(i):
            q_c, b_c, rows = (x[i] for x in split)
            logits = tf.matmul(q_c, gathered(k, rows), transpose_b=True) / temperature
            weights = tf.nn.softmax(logits + tf.repeat(b_c, pixels, axis=1)[:, None])
            return tf.matmul(weights, gathered(v, rows)), weights

        specs = [
            tf.TensorSpec((chunk, q.shape[1], n), q.dtype) for n in (width, retrieved * pixels)
        ]
        out, weights = tf.map_fn(
            forward, tf.range(chunks), fn_output_signature=tuple(specs), parallel_iterations=1
        )

        def gradient(upstream):
            upstream = tf.reshape(upstream, tf.shape(out))
            # In the softmax's gradient, sum(dw * w) over the keys equals sum(upstream * out).
            mean = tf.reduce_sum(upstream * out, -1, keepdims=True)

            def backward(i):
                q_c, _, rows = (x[i] for x in split)
                to_weights = tf.matmul(upstream[i], gathered(v, rows), transpose_b=True)
                to_logits = weights[i] * (to_weights - mean[i])
                to_b = tf.reshape(tf.reduce_sum(to_logits, 1), (chunk, retrieved, pixels))
                to_logits /= temperature
                return (
                    _sums(tf.matmul(to_logits, q_c, transpose_a=True), rows, k),
                    _sums(tf.matmul(weights[i], upstream[i], transpose_a=True), rows, v),
                    tf.matmul(to_logits, gathered(k, rows)),
                    tf.reduce_sum(to_b, -1),
                )

            def add(i, d_k, d_v, d_q, d_b):
                to_k, to_v, to_q, to_b = backward(i)
                return i + 1, d_k + to_k, d_v + to_v, d_q.write(i, to_q), d_b.write(i, to_b)

            d_k, d_v, to_q, to_b = backward(0)  # The first chunk initialises the sums.
            arrays = (
                tf.TensorArray(x.dtype, chunks, element_shape=x.shape).write(0, x)
                for x in (to_q, to_b)
            )
            _, d_k, d_v, d_q, d_b = tf.while_loop(
                lambda i, *_: i < chunks, add, (1, d_k, d_v, *arrays), parallel_iterations=1
            )
            d_q, d_b = (tf.reshape(d.stack(), tf.shape(x)) for d, x in ((d_q, q), (d_b, b)))
            return d_q, d_k, d_v, d_b

        return tf.reshape(out, (-1, *out.shape[2:])), gradient

    attended = run(
        tf.reshape(query, (-1, *query.shape[2:])),
        tf.reshape(key, (-1, pixels, channels)),
        tf.reshape(value, (-1, pixels, width)),
        tf.reshape(bias, (-1, retrieved)),
    )
    return tf.reshape(attended, (-1, blocks, query.shape[2], width))


def _sums(values: tf.Tensor, index: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Sums the values that have the same index, into a tensor of the shape of `like`, [n,...]."""
    values, index = tf.reshape(values, (-1, *like.shape[1:])), tf.reshape(index, (-1,))
    count = tf.shape(like)[0]
    if GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return tf.math.unsorted_segment_sum(values, index, count)
    # Reads each value once and is two to three times as fast, but XLA does not support it.
    order = tf.argsort(index)
    return tf.sparse.segment_sum(values, order, tf.gather(index, order), num_segments=count)


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


@keras.saving.register_keras_serializable("tfface")
class DenseAlignment(keras.layers.Layer):
    """Warps values from one feature map to the positions of another by dense attention.

    The exact form of what `BlockAlignment` approximates, with the same inputs and output `aligned`.

    Args:
        temperature: Temperature of the softmax over cosines; 0.01 in CoCosNet.
    """

    def __init__(self, temperature: float = 0.01, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, query, key, value):
        """[B,H,W,C], [B,H',W',C], [B,H',W',V] to {"aligned": [B,H,W,V]}, float32."""
        q, k = unit(query), unit(key)
        return {"aligned": dense_attention(q, k, tf.cast(value, q.dtype), self.temperature)}

    def get_config(self) -> dict:
        """Returns the arguments."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable("tfface")
class BlockAlignment(keras.layers.Layer):
    """Warps values from one feature map to the positions of another, block by block.

    Both maps are cut into blocks. For each block of the query, all blocks of the key are ranked by
    the cosine of their descriptors (the mean of the pixels' features). A differentiable top-k
    retrieves k of them by index, and the query's pixels attend to the retrieved pixels only. The
    logarithm of a block's weight is added to the attention logits: blocks with a low rank count
    less, and the ranking gets a gradient. For the reverse direction (cycle), call the layer with
    query and key exchanged.

    From the abstract of the paper (CVIU 2023): a dedicated index for each block, top-k ranking as
    regularised optimal transport, local attention over the retrieved blocks. Inferred, as the
    paper's text is not public: the descriptors, how the weights enter, the defaults.

    Computed in float32 under any precision policy; float64 stays float64.

    Args:
        side: Side of a block in pixels.
        top_k: Number of retrieved blocks, at most the number of blocks.
        epsilon: Weight of the entropy in the transport.
        temperature: Temperature of the softmax over cosines.
        solver: "closed_form" or "sinkhorn".
        iterations: Number of Sinkhorn iterations.
    """

    def __init__(
        self,
        side: int = 4,
        top_k: int = 4,
        epsilon: float = 0.02,
        temperature: float = 0.01,
        solver: str = "closed_form",
        iterations: int = 50,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.side, self.top_k = side, top_k
        self.epsilon, self.temperature = epsilon, temperature
        self.solver, self.iterations = solver, iterations

    def call(self, query, key, value):
        """Aligns the values with the query.

        Args:
            query: Features [B,H,W,C].
            key: Features [B,H',W',C].
            value: [B,H',W',V].

        Returns:
            `aligned` float32 [B,H,W,V]; `index` int32 [B,M,k], the retrieved blocks, best first;
            `weight` float32 [B,M,k] in [0,1], their weights from the top-k.
        """
        _, height, width, _ = query.shape
        q, k = (unit(partition_blocks(x, self.side)) for x in (query, key))
        index, weight = self.rank(q, k)
        v = partition_blocks(tf.cast(value, q.dtype), self.side)
        bias = tf.math.log(weight + _WEIGHT_FLOOR)
        aligned = block_attention(q, k, v, index, bias, self.temperature)
        return {
            "aligned": merge_blocks(aligned, height, width),
            "index": index,
            "weight": weight,
        }

    def rank(self, query: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Index and weight [B,M,k] of the retrieved blocks, given unit features in blocks."""
        scores = tf.matmul(
            unit(tf.reduce_mean(query, 2)), unit(tf.reduce_mean(key, 2)), transpose_b=True
        )
        if self.solver == "sinkhorn":
            plan = sinkhorn_top_k(scores, self.top_k, self.epsilon, self.iterations)
        else:
            plan = soft_top_k(scores, self.top_k, self.epsilon)
        # The same number as in `soft_top_k`, so that TensorFlow merges the two searches.
        count = min(self.top_k + 1, scores.shape[-1])
        index = tf.math.top_k(scores, count).indices[..., : self.top_k]
        return index, tf.gather(plan, index, batch_dims=2)

    def get_config(self) -> dict:
        """Returns the arguments."""
        names = ("side", "top_k", "epsilon", "temperature", "solver", "iterations")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
