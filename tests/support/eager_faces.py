"""Built-in faces without a pipeline."""

import itertools

import tensorflow as tf

from tfface.data.synthetic import SyntheticFaces


class EagerFaces(SyntheticFaces):
    """Draws without a pipeline, as tracing takes far longer than drawing a few faces."""

    class Batches:
        def __init__(self, draw, start):
            self.draw, self.start = draw, start

        def __iter__(self):
            return (self.draw(tf.constant(n, tf.int64)) for n in itertools.count(self.start))

        def take(self, count):
            return list(itertools.islice(self, count))

    def _drawn(self, draw, batch_size, start):
        return self.Batches(draw, start)
