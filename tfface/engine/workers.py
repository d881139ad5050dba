"""Training by several processes, usually one per machine: `TF_CONFIG`, and what the workers share.

TensorFlow's collective operations connect the workers (`MultiWorkerMirroredStrategy`). Its
coordination service notices a worker that has ended, or has sent no heartbeat for ten seconds, and
aborts the operations of the others.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfface.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

logger = logging.getLogger("tfface")
_WAIT_S, _NOTE_S = 600.0, 10.0  # Until a start is given up, and between two notes meanwhile.
_PART_S = 10.0
_EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a training. Worker 0, the chief, alone writes, previews and evaluates.

    Attributes:
        addresses: HOST:PORT of each worker; () if there is only this process.
        index: Number of this worker.
        strategy: The strategy that joins the workers; None if there is only this process.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0
    strategy: tf.distribute.Strategy | None = None

    @property
    def count(self) -> int:
        """Number of workers."""
        return max(len(self.addresses), 1)

    @property
    def chief(self) -> bool:
        """Whether this process is the chief."""
        return self.index == 0

    def join(self) -> Workers:
        """Waits for the other workers; to be called before any other use of TensorFlow.

        Returns:
            The workers with their strategy.

        Raises:
            UserError: The port is in use, or this process has already used TensorFlow.
        """
        if self.count == 1:
            return self
        import tensorflow as tf

        cluster = tf.train.ClusterSpec({"worker": list(self.addresses)})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            cluster, task_type="worker", task_id=self.index, rpc_layer="grpc"
        )
        try:
            with self._waiting():
                strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except RuntimeError as error:
            raise UserError(
                f"TF_CONFIG names {self.count} workers, but this process has already used "
                f"TensorFlow: start the training in a new process"
            ) from error
        except tf.errors.OpError as error:
            raise UserError(f"{self} cannot join the others: {error.message}") from error
        return dataclasses.replace(self, strategy=strategy)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Names the workers that are missing; ends the process after `_WAIT_S`.

        The block waits inside TensorFlow, where Python handles no signals.
        """
        joined, begin = threading.Event(), time.monotonic()

        def watch():
            while not joined.wait(_NOTE_S):
                missing = self._names(self._silent())
                if time.monotonic() - begin > _WAIT_S:
                    message = f"{self} has waited {_WAIT_S:.0f} s for {missing}; giving up"
                    print(f"tfface.train: error: {message}", file=sys.stderr, flush=True)
                    os._exit(2)
                logger.warning("%s is waiting for %s", self, missing)

        threading.Thread(target=watch, daemon=True).start()
        handler = signal.getsignal(signal.SIGINT)
        with contextlib.suppress(ValueError):  # Not in the main thread.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            yield
        finally:
            joined.set()
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, handler)

    def share(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chief's arrays; those of other workers only define names, shapes and types."""
        import tensorflow as tf

        def chosen(value):
            first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            # Collective operations support few types of integers.
            value = tf.cast(value, tf.int64) if value.dtype.is_integer else tf.identity(value)
            return tf.where(first, value, tf.zeros_like(value))

        shared = self._sum_of(chosen)([tf.constant(array) for array in arrays.values()])
        return {
            name: value.numpy().astype(array.dtype)
            for (name, array), value in zip(arrays.items(), shared, strict=True)
        }

    def total(self, value: float) -> tf.Tensor:
        """The sum of a number over the devices of all workers, float32 []."""
        import tensorflow as tf

        return self._total([tf.constant(value, tf.float32)])[0]

    def part(self) -> None:
        """To be called by all workers before they end: the last is the chief.

        The others wait until it has written everything, as some systems end a job with its first
        process. It waits until they have ended: they would look for its coordination service.
        """
        if not self.strategy:
            return
        float(self.total(0.0))
        deadline = time.monotonic() + _PART_S
        while self.chief and time.monotonic() < deadline and len(self._silent()) < self.count - 1:
            time.sleep(0.1)

    @functools.cached_property
    def _total(self):
        import tensorflow as tf

        return self._sum_of(tf.identity)  # Collective operations need tensors that are on a device.

    def _sum_of(self, function):
        """A function that applies `function` to tensors and sums each over all devices."""
        import tensorflow as tf

        def reduce(values):
            context = tf.distribute.get_replica_context()
            # One by one: TensorFlow would concatenate them, whatever their types are.
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, function(v)) for v in values]

        @tf.function(autograph=False)
        def total(values):
            sums = self.strategy.run(reduce, (values,))
            return [self.strategy.experimental_local_results(value)[0] for value in sums]

        return total

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raises a UserError if another worker ends or does not answer within the block.

        The process then ends with status 2, without waiting for TensorFlow.
        """
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            if not self.strategy or "ollective" not in str(error):
                raise
            named = {int(n) for n in re.findall(r"replica:0/task:(\d+)", str(error))}
            ended = self._silent() or sorted(named - {self.index})
            if not ended:
                raise
            atexit.register(_end)
            raise UserError(
                f"{self}: {self._names(ended)} ended or does not answer, so this worker ends, too. "
                f"Start the same command on all workers to continue from the last checkpoint"
            ) from error

    def _silent(self) -> list[int]:
        """Numbers of the other workers that accept no connections."""
        others = [i for i in range(self.count) if i != self.index]
        return [i for i in others if not _accepts_connections(self.addresses[i])]

    def _names(self, numbers: list[int]) -> str:
        names = [f"worker {i} ({self.addresses[i]})" for i in numbers]
        return ", ".join(names) or "the others"

    def __str__(self) -> str:
        return f"worker {self.index} of {self.count} ({self.addresses[self.index]})"


ALONE = Workers()
"""A training of a single process."""


class Agreement:
    """Lets all workers stop after the same step if one of them receives a signal."""

    def __init__(self, workers: Workers):
        self._workers, self._last = workers, None

    def __call__(self, received: int | None) -> int | None:
        """To be called after the same steps by all workers.

        Args:
            received: The signal that this worker has received; None if there was none.

        Returns:
            The signal to stop for; None to continue.
        """
        if not self._workers.strategy:
            return received
        before, self._last = self._last, self._workers.total(received is not None)
        # The sum of the previous call, as that of this one would block until its steps are done.
        if before is None or not float(before):
            return None
        return received or signal.SIGTERM


def from_environment() -> Workers:
    """The workers that the environment variable `TF_CONFIG` names.

    Raises:
        UserError: `TF_CONFIG` is invalid.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"TF_CONFIG is not JSON: {error}; expected {_EXAMPLE}") from error
    cluster = _member(config, "cluster", dict, "TF_CONFIG") if "cluster" in config else {}
    if not cluster:
        return Workers()
    if unknown := sorted(cluster.keys() - {"chief", "worker"}):
        raise UserError(
            f"TF_CONFIG: cluster has the job {unknown[0]!r}: expected worker and, optionally, chief"
        )
    jobs = {name: _member(cluster, name, list, "TF_CONFIG: cluster") for name in sorted(cluster)}
    addresses = [address for job in jobs.values() for address in job]
    for address in addresses:
        if not re.fullmatch(r"\S+:\d+", str(address)) or addresses.count(address) > 1:
            raise UserError(f"TF_CONFIG: address {address!r}: expected HOST:PORT, each once")
    task = _member(config, "task", dict, "TF_CONFIG")
    job, index = _member(task, "type", str, "task"), _member(task, "index", int, "task")
    if job not in jobs:
        raise UserError(f"TF_CONFIG: task.type is {job!r}: expected one of {', '.join(jobs)}")
    if not 0 <= index < len(jobs[job]):
        raise UserError(
            f"TF_CONFIG: task.index is {index}: cluster has {len(jobs[job])} {job}(s), "
            f"expected 0 to {len(jobs[job]) - 1}"
        )
    before = len(jobs["chief"]) if job == "worker" and "chief" in jobs else 0
    return Workers(tuple(addresses), before + index)


def _end() -> None:
    """Ends the process at once: TensorFlow would look for the lost worker for up to a minute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def _member(values: Any, name: str, kind: type, where: str) -> Any:
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {dict: "an object", list: "a list", str: "a string", int: "a number"}
        raise UserError(f"{where}: {name} is {value!r}: expected {words[kind]}, as in {_EXAMPLE}")
    return value


def _accepts_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except OSError:
        return False
    return True
