"""A small method for tests of the engine."""

import dataclasses
import functools
import json
from pathlib import Path

import keras
import tensorflow as tf

from tfface.config import Adam, Data, MethodConfig, Train
from tfface.data.base import Source
from tfface.engine.run import Run
from tfface.engine.trainer import Trainer, adam
from tfface.layers import Network, precision
from tfface.methods.base import Method, Phase, Task

SIZE = 32


@dataclasses.dataclass(frozen=True)
class ToyConfig(MethodConfig):
    data: Data = Data(size=SIZE, batch_size=4)
    adam: Adam = Adam(learning_rate=1e-2, l2=1e-3, schedule="linear", decay_start=2)
    train: Train = Train(
        steps=6, ema_half_life=0.01, log_every=1, preview_every=3, save_every=3, jit="off"
    )


class Noise(Source):
    """Images that are a pure function of seed and number."""

    def count(self, split):
        return {"train": 100, "val": 0, "test": 0}[split]

    def batches(self, split, batch_size, *, seed=None, start=0, where=None):
        def draw(number):
            key = tf.stack([tf.constant(seed or 0, tf.int64), number])
            shape = [batch_size, self.data.size, self.data.size, 3]
            return {"image": tf.random.stateless_uniform(shape, key, -1, 1)}

        return tf.data.Dataset.range(start, 2**40).map(draw)


class Painter(Network):
    """A generator with dropout, whose random state has to be saved too."""

    def __init__(self, dtype=None, name="painter"):
        with precision(dtype):
            x = keras.Input((SIZE, SIZE, 3))
            y = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
            y = keras.layers.Dropout(0.3)(y)
            y = keras.layers.Conv2D(3, 3, padding="same", name="last")(y)
            y = keras.layers.Activation("tanh", dtype="float32")(y)
            super().__init__(x, y, arguments={}, name=name)


class Critic(Network):
    def __init__(self, dtype=None, name="critic"):
        with precision(dtype):
            x = keras.Input((SIZE, SIZE, 3))
            y = keras.layers.Conv2D(4, 4, strides=4, activation="relu", name="first")(x)
            y = keras.layers.Conv2D(1, 1, dtype="float32", name="last")(y)
            super().__init__(x, y, arguments={}, name=name)


class Toy(Method):
    """A generator trained against a critic; the generator is updated in every second step."""

    title = "A toy"
    curves = ("paint/realness",)
    task = Task.LABEL_MAP
    averaged = ("painter",)

    @classmethod
    def open(cls, config):
        return cls(config), Noise(config.data)

    def build(self):
        return {"painter": Painter(), "critic": Critic()}

    def phases(self):
        judge, paint = (functools.partial(self.loss, name) for name in ("judge", "paint"))
        return Phase("judge", ("critic",), judge), Phase("paint", ("painter",), paint, every=2)

    def batches(self, source, split, batch_size, *, seed=None, start=0):
        return source.batches(split, batch_size, seed=seed, start=start)

    def loss(self, phase, nets, batch):
        generated = nets["painter"](batch["image"], training=phase == "paint")
        realness = nets["critic"](generated)
        if phase == "paint":
            return -tf.reduce_mean(realness), {"realness": tf.reduce_mean(realness)}
        real = tf.reduce_mean(tf.square(nets["critic"](batch["image"]) - 1.0))
        fake = tf.reduce_mean(tf.square(realness))
        return real + fake, {"real": real, "fake": fake}

    def preview(self, nets, batch):
        return {"input": batch["image"], "generated": nets["painter"](batch["image"])}

    def evaluation_source(self):
        return Noise(self.config.data)

    def signatures(self, nets):
        raise NotImplementedError


class NoDropout(Toy):
    """Without random numbers of Keras, which depend on how a batch is split."""

    def build(self):
        nets = super().build()
        nets["painter"].layers[2].rate = 0.0
        return nets


def toy(path, kind=Toy, optimizer=adam, change=False, init="", evaluate=None, **options):
    """A trainer; options as `train.steps` with `_` for the dot: `train_steps`."""
    config = ToyConfig()
    for name, value in options.items():
        part, _, option = name.partition("_")
        changed = dataclasses.replace(getattr(config, part), **{option: value})
        config = dataclasses.replace(config, **{part: changed})
    method, source = kind.open(config)
    run = Run.create("toy", config, str(path), change=change)
    return Trainer(method, source, run, optimizer, init, evaluate)


def weights(nets):
    return [v.numpy() for name in sorted(nets) for v in nets[name].trainable_variables]


def lines(path):
    return [json.loads(line) for line in (Path(path) / "metrics.jsonl").open()]


def steps(trainer, count, start=0):
    batches = trainer.batches(start)
    for number in range(start, start + count):
        yield trainer.step(number, next(batches))


def sgd(config):
    return keras.optimizers.SGD(config.learning_rate)


def sgd_fast(config):
    return keras.optimizers.SGD(0.05)


def sgd_clipped(config):
    return keras.optimizers.SGD(0.05, global_clipnorm=0.1)
