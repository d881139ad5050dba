"""Run folders of networks with random weights, and faces to edit with them."""

import numpy as np
import tensorflow as tf
from PIL import Image

import tfface
from tfface.config import from_dict, parse_training, to_dict
from tfface.engine.load import write_run
from tfface.methods import get_config, get_method

CLASSES = ("happy", "neutral", "sad")


ATTRIBUTES = ("Eyeglasses", "Smiling")


def write_tiny_run(path, name, **options):
    """Writes a run folder with random weights, large enough for visible edits; returns the run."""
    config_class = get_config(name)
    _, config, _ = parse_training([name, "--preset", "tiny"], {name: config_class})
    method = get_method(name)(from_dict(config_class, {**to_dict(config), **options}))
    tf.keras.utils.set_random_seed(3)
    nets = method.build()
    for net in nets.values():
        for variable in net.trainable_variables:
            if len(variable.shape) > 1:
                variable.assign(variable * 3.0)
    write_run(path, name, method, nets)
    return tfface.load(str(path))


def face(seed, width, height):
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
