"""Keras's convolution against one matrix product: `python benchmarks/convolution.py`.

The strided convolutions of StarGAN's discriminator at 128 px, batch 8, from the last one upwards:
forward with both gradients, and a gradient penalty. The two ways alternate in one process; times
are the fastest of several calls. `tfface.layers.Conv2D` chooses by the ratio of channels to
positions in the last column.
"""

from __future__ import annotations

from common import fastest

from tfface.cli import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfface.layers import Conv2D, convolution, precision  # noqa: E402

SECONDS = 4.0
SHAPES = ((4, 1024), (8, 512), (16, 256))  # Side and channels of the input.


def gradients(layer, x, penalty: bool):
    """A compiled function that computes gradients with respect to the input and the kernel."""

    @tf.function(autograph=False)
    def compute(x):
        kernel = layer.kernel.value
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.square(layer(x)))
            if penalty:
                loss = tf.reduce_sum(tf.square(inner.gradient(loss, x)))
        return outer.gradient(loss, [x, kernel])

    return lambda: compute(x)


def main() -> None:
    """Prints the table."""
    convolution.CHANNELS_PER_POSITION = 0  # Always a matrix product, to see where it loses.
    print("| input | precision | | Keras (ms) | matrix product (ms) | ratio | channels/positions |")
    print("|---|---|---|---|---|---|---|")
    for side, channels in SHAPES:
        for policy in ("float32", "mixed_bfloat16"):
            options = {"filters": 2 * channels, "kernel_size": 4, "strides": 2, "padding": "same"}
            with precision(policy):
                layers = keras.layers.Conv2D(**options), Conv2D(**options)
            x = tf.random.stateless_normal((8, side, side, channels), (0, 1))
            x = tf.cast(x, layers[0].compute_dtype)
            for layer in layers:
                layer.build(x.shape)
            for name, penalty in (("gradients", False), ("penalty", True)):
                plain, product = fastest(
                    [gradients(layer, x, penalty) for layer in layers], SECONDS
                )
                print(
                    f"| {side}x{side}x{channels} | {policy} | {name} | {1000 * plain:.1f} | "
                    f"{1000 * product:.1f} | {plain / product:.2f} | {8 * channels // side**2} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
