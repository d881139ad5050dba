"""Random tensors."""

import numpy as np
import tensorflow as tf


def normal(*shape, seed=0, dtype="float32"):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)
