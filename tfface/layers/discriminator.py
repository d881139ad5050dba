"""StarGAN's discriminator, tested against the outputs of the authors' network (`tests/golden`)."""

from __future__ import annotations

import keras

from tfface.layers.convolution import Conv2D
from tfface.layers.network import Network, precision, to_float32, torch_default


@keras.saving.register_keras_serializable("tfface")
class Discriminator(Network):
    """StarGAN's discriminator: a realness map over patches, and expression logits.

    Args:
        size: Side of the images, a multiple of 2**layers.
        classes: Number of expressions.
        width: Channels of the first convolution; each further one doubles them.
        layers: Number of convolutions of stride 2.
        realness: Whether to output a realness map; a multi-task discriminator has only logits.
        dtype: Precision policy; None: the current one.
        name: Name of the model.

    Input: [B,S,S,3] in [-1,1]. Outputs, float32: realness [B,s,s,1] with s = S / 2**layers, where
    higher is more real; logits [B,classes], the last output.

    Example:
        >>> import tensorflow as tf
        >>> from tfface.layers.discriminator import Discriminator
        >>> discriminator = Discriminator(size=32, classes=3, width=4, layers=4)
        >>> realness, logits = discriminator(tf.zeros([2, 32, 32, 3]))
        >>> realness.shape, logits.shape
        (TensorShape([2, 2, 2, 1]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        size: int,
        classes: int,
        width: int = 64,
        layers: int = 6,
        realness: bool = True,
        dtype=None,
        name: str = "discriminator",
    ):
        arguments = {"size": size, "classes": classes, "width": width, "layers": layers}
        arguments["realness"] = realness
        with precision(dtype):
            image = x = keras.Input((size, size, 3), name="image")
            for i in range(layers):
                fan_in = 16 * x.shape[-1]
                bound = fan_in**-0.5
                x = Conv2D(
                    width * 2**i,
                    4,
                    strides=2,
                    padding="same",
                    kernel_initializer=torch_default(),
                    bias_initializer=keras.initializers.RandomUniform(-bound, bound),
                    name=f"down{i + 1}_conv",
                )(x)
                x = keras.layers.LeakyReLU(0.01, name=f"down{i + 1}_relu")(x)
            outputs = {}
            if realness:
                outputs["realness"] = keras.layers.Conv2D(
                    1,
                    3,
                    padding="same",
                    use_bias=False,
                    kernel_initializer=torch_default(),
                    name="realness",
                )(x)
            logits = keras.layers.Conv2D(
                classes,
                size // 2**layers,
                use_bias=False,
                kernel_initializer=torch_default(),
                name="logits",
            )(x)
            outputs["logits"] = keras.layers.Reshape((classes,), name="flatten")(logits)
            ends = [to_float32(y, f"{key}_float32") for key, y in outputs.items()]
            super().__init__(image, ends, arguments=arguments, name=name)
