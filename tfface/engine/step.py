"""A compiled training step: gradients per phase, and optimiser updates.

XLA compiles per-replica functions only: it cannot compile the sum of gradients over the replicas.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from tfface.config import Adam
from tfface.errors import UserError
from tfface.methods.base import Batch, Method, Networks, Phase

MIN_GAIN = 1.2
"""How many times as fast a convolution must be in bfloat16 for `train.precision auto` to use it."""

NORM = "gradient_norm"
"""Norm of the gradients of a phase over all its weights, among the values of a step."""


def make_strategy(replicas: int) -> tf.distribute.Strategy:
    """The distribution strategy for a number of devices; 0: all GPUs, or the CPU.

    Raises:
        UserError: More devices than are available.
    """
    devices = [d.name for d in tf.config.list_logical_devices("GPU")]
    if len(devices) < max(replicas, 1):
        devices = devices or [d.name for d in tf.config.list_logical_devices("CPU")]
    count = replicas or (len(devices) if tf.config.list_logical_devices("GPU") else 1)
    if count > len(devices):
        raise UserError(
            f"train.replicas is {replicas}: found {len(devices)} device(s), {', '.join(devices)}"
        )
    if count == 1:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(devices[:count]))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # Shared by all trainers of a process: every new strategy numbers its collective operations from
    # the beginning, and TensorFlow treats operations with the same number as the same operation.
    return tf.distribute.MirroredStrategy(devices)


def resolve_precision(precision: str) -> tuple[str, str]:
    """The precision policy for the option `train.precision`, and its description for the log."""
    if precision != "auto":
        return precision, precision
    times = {name: convolution_time(name) for name in ("float32", "bfloat16")}
    ratio = times["float32"] / times["bfloat16"]
    policy = "mixed_bfloat16" if ratio > MIN_GAIN else "float32"
    return policy, f"{policy} (auto: bfloat16 computes a convolution {ratio:.1f} times as fast)"


def convolution_time(dtype: str) -> float:
    """Seconds that a convolution takes with both gradients in a data type, at best."""
    images, kernel = tf.ones([8, 64, 64, 64], dtype), tf.ones([3, 3, 64, 64], dtype)

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            total = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
        return [tf.reduce_sum(g) for g in tape.gradient(total, [images, kernel])]

    times = []
    for _ in range(6):  # The first one traces.
        start = time.perf_counter()
        [value.numpy() for value in run()]
        times.append(time.perf_counter() - start)
    return min(times)


class FusedAdam(keras.optimizers.Adam):
    """Adam that updates a variable in one TensorFlow operation.

    The same formula as Keras's, which is a chain of a dozen operations: these take longer to trace
    and, without XLA, to run (benchmarks/optimizer_update.py).
    """

    def update_step(self, gradient, variable, learning_rate):
        """Updates a variable and its moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def make_optimizers(
    method: Method, nets: Networks, make: Callable[[Adam], keras.Optimizer]
) -> dict[str, keras.Optimizer]:
    """Creates and builds the optimisers of all phases, by the group names of `Phase.groups`.

    Args:
        method: The method.
        nets: Its networks.
        make: Creates an optimiser from the method's Adam options.
    """
    config, optimizers = method.config, {}
    for phase in method.phases():
        for group, (names, _) in phase.groups().items():
            optimizer = make(config.adam)
            # `TrainStep` sums the gradients over the replicas. Keras would do it after it has
            # clipped them and checked that they are finite, so that replicas could differ.
            optimizer._all_reduce_sum_gradients = list
            if config.train.precision == "mixed_float16":
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            optimizer.build([v for name in names for v in nets[name].trainable_variables])
            optimizers[group] = optimizer
    return optimizers


def split_batch(batch: Batch, parts: int) -> Batch:
    """Splits the tensors [B,...] of a batch into [parts,B/parts,...]."""
    return {
        name: tf.reshape(
            value,
            [parts, -1 if value.shape[0] is None else value.shape[0] // parts, *value.shape[1:]],
        )
        for name, value in batch.items()
    }


def _scale(group: tuple[keras.Optimizer, list]) -> tf.Tensor:
    """The factor on the loss for an optimiser and its variables: 1 except with mixed_float16."""
    return group[0].scale_loss(tf.constant(1.0))


class TrainStep:
    """Runs the phases that are due in a step.

    Args:
        method: The method.
        strategy: The strategy in whose scope the variables were created.
        nets: Networks by name.
        averages: Copies with averaged weights, by name.
        optimizers: Optimisers, see `make_optimizers`.

    Attributes:
        compilation: Description of what XLA compiles, for the log.
    """

    def __init__(
        self,
        method: Method,
        strategy: tf.distribute.Strategy,
        nets: Networks,
        averages: Networks,
        optimizers: dict[str, keras.Optimizer],
    ):
        self._method, self._strategy = method, strategy
        self._nets, self._averages, self._optimizers = nets, averages, optimizers
        train = method.config.train
        on_gpu = bool(tf.config.list_logical_devices("GPU"))
        jit = on_gpu if train.jit == "auto" else train.jit == "on"
        self.compilation = f"XLA compiles gradients: {'yes' if jit else 'no'}"
        self._phases = method.phases()
        self._forward = {p.name: self._forward_function(p, jit) for p in self._phases if p.forward}
        self._gradients = {p.name: self._gradient_function(p, jit) for p in self._phases}
        self._calls: dict[tuple[tuple[str, ...], ...], tuple] = {}

    def __call__(
        self, number: int, batches: list[Batch], rates: list[dict[str, float]]
    ) -> list[tuple[list[str], tf.Tensor]]:
        """Runs consecutive steps in one call.

        Args:
            number: Number of the first step, from 0.
            batches: Their batches.
            rates: Their learning rates by the name of the optimiser.

        Returns:
            For each step the names "PHASE/TERM" of the loss terms and of the "PHASE/gradient_norm",
            and their values as a float32 vector.
        """
        numbers = range(number, number + len(batches))
        due = tuple(tuple(p for p in self._phases if p.due(n)) for n in numbers)
        key = tuple(tuple(p.name for p in phases) for phases in due)
        if key not in self._calls:
            self._calls[key] = self._call_function(due)
        names, function = self._calls[key]
        table = tf.constant([[r[name] for name in self._optimizers] for r in rates], tf.float32)
        return list(zip(names, function(batches, table), strict=True))

    def _groups(self, phase: Phase) -> list[tuple[keras.Optimizer, list]]:
        """The optimisers of a phase, with the variables that they update."""
        return [
            (
                self._optimizers[group],
                [v for name in names for v in self._nets[name].trainable_variables],
            )
            for group, (names, _) in phase.groups().items()
        ]

    def _forward_function(self, phase: Phase, jit: bool):
        @tf.function(jit_compile=jit, autograph=False)
        def forward(batch: Batch):
            return phase.forward(self._nets, batch)

        return forward

    def _gradient_function(self, phase: Phase, jit: bool):
        groups = self._groups(phase)
        variables = [[v.value for v in group] for _, group in groups]
        replicas, l2 = self._strategy.num_replicas_in_sync, self._method.config.adam.l2
        parts = self._method.config.train.accumulate

        @tf.function(jit_compile=jit, autograph=False)
        def gradients(batch: Batch, shared: Batch | None = None):
            """Gradients for the variables and for `shared`, results of `forward`; loss terms."""
            with tf.GradientTape() as tape:
                if shared is None:
                    total, terms = phase(self._nets, batch)
                else:
                    tape.watch(shared)
                    total, terms = phase.loss(self._nets, {**batch, **shared})
                objective = total
                if l2:
                    # The gradient of l2/2 * w^2 is l2 * w, the term of coupled weight decay.
                    decayed = [tf.nn.l2_loss(v) for group in variables for v in group]
                    objective += l2 * tf.add_n(decayed)
                # Gradients are summed over replicas and parts.
                objective = _scale(groups[0]) * objective / (replicas * parts)
            # Zero for weights that do not affect the loss, such as the discriminator's realness
            # layers while it learns classes only.
            computed, for_shared = tf.nest.map_structure(
                lambda g, x: tf.zeros_like(x) if g is None else g,
                tape.gradient(objective, (variables, shared or {})),
                (variables, shared or {}),
            )
            # The total comes last, so that an error about a non-finite value names its term.
            terms = {**terms, "total": total}
            terms = {name: value / parts for name, value in terms.items()}
            return computed, for_shared, terms

        def accumulated(batch: Batch, shared: None = None):
            batch = split_batch(batch, parts)

            def add(number, sums):
                found = gradients({name: value[number] for name, value in batch.items()})
                return number + 1, tf.nest.map_structure(tf.add, sums, found)

            first = gradients({name: value[0] for name, value in batch.items()})
            # A loop, not copies in the graph: they would run at the same time, in as much memory.
            start = tf.constant(1), first
            return tf.while_loop(lambda i, _: i < parts, add, start, parallel_iterations=1)[1]

        return gradients if parts == 1 else accumulated

    def _rescaled(self, phase: Phase, gradients: list[list[tf.Tensor]]) -> list[list[tf.Tensor]]:
        """Gradients with the loss scale of their own optimiser instead of the first's."""
        first, *others = (_scale(group) for group in self._groups(phase))
        factors = [1.0, *(scale / first for scale in others)]
        return [[f * g for g in group] for f, group in zip(factors, gradients, strict=True)]

    def _update(self, phase: Phase, gradients: list[list[tf.Tensor]]) -> tf.Tensor:
        """Updates the weights; returns the norm of the gradients."""
        squares = 0.0
        for (optimizer, variables), values in zip(self._groups(phase), gradients, strict=True):
            norm = tf.linalg.global_norm(values) / _scale((optimizer, variables))
            squares += tf.square(norm)
            optimizer.apply(values, variables)
        return tf.sqrt(squares)

    def _call_function(self, due: tuple[tuple[Phase, ...], ...]):
        names: list[list[str]] = [[] for _ in due]

        def replica_step(phases: tuple[Phase, ...], names: list[str], batch: Batch):
            values, shared = {}, None
            sharing = [phase for phase in phases if phase.forward]
            # Parts of a batch have a forward pass in each phase, for the sake of memory.
            if len(sharing) > 1 and self._method.config.train.accumulate == 1:
                with tf.GradientTape() as tape:
                    shared = self._forward[sharing[-1].name](batch)
            for phase in phases:
                given = shared if phase.forward else None
                gradients, for_shared, terms = self._gradients[phase.name](batch, given)
                if given is not None and phase is sharing[-1]:
                    variables = [[v.value for v in group] for _, group in self._groups(phase)]
                    more = tape.gradient(shared, variables, for_shared, "zero")
                    gradients = tf.nest.map_structure(tf.add, gradients, more)
                gradients = self._rescaled(phase, gradients)
                if self._strategy.num_replicas_in_sync > 1:
                    context = tf.distribute.get_replica_context()
                    gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
                norm = self._update(phase, gradients)
                values |= {f"{phase.name}/{term}": value for term, value in terms.items()}
                values[f"{phase.name}/{NORM}"] = norm
            names[:] = values
            return tf.stack([tf.cast(v, tf.float32) for v in values.values()])

        @tf.function(autograph=False)
        def call(batches: list[Batch], rates: tf.Tensor):
            results = []
            for i, phases in enumerate(due):
                for optimizer, rate in zip(
                    self._optimizers.values(), tf.unstack(rates[i]), strict=True
                ):
                    optimizer.learning_rate = rate
                step = functools.partial(replica_step, phases, names[i])
                values = self._strategy.run(step, args=(batches[i],))
                for phase in phases:
                    self._average(phase)
                results.append(self._strategy.reduce("MEAN", values, axis=None))
            return results

        return names, call

    def _average(self, phase: Phase) -> None:
        """Updates the averages of the networks that a phase has just updated."""
        config = self._method.config
        for name in [name for name in phase.updates if name in self._averages]:
            images = config.data.batch_size * phase.every
            decay = 0.5 ** (images / (1000 * config.train.ema_half_life))
            # Average over fewer updates at the beginning, to forget the random initial weights.
            count = tf.cast(self._updates_of(name), tf.float32)
            weight = 1.0 - tf.minimum(decay, (1.0 + count) / (10.0 + count))
            pairs = zip(self._averages[name].variables, self._nets[name].variables, strict=True)
            for mean, new in ((mean.value, new.value) for mean, new in pairs):
                mean.assign_sub(tf.cast(weight, mean.dtype) * (mean - new))

    def _updates_of(self, name: str) -> tf.Tensor:
        """How often a network has been updated, by all phases."""
        groups = [group for phase in self._phases for group in phase.groups().items()]
        of_network = {group for group, (names, _) in groups if name in names}
        return tf.add_n([self._optimizers[group].iterations.value for group in sorted(of_network)])
