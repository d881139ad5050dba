"""Dynamic batching with TF Serving's parameters: concurrent requests are run as one batch."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field

import grpc
import numpy as np

from tfface.errors import UserError
from tfface.server.protos import BatchingParameters
from tfface.server.status import ServingError, invalid

_Tensors = dict[str, np.ndarray]
_MAX_BATCH_SIZE = 1000
_MAX_ENQUEUED_BATCHES = 10
_FULL = "The batch scheduling queue to which this task was submitted is full"


class _IncompatibleError(Exception):
    """Arrays of several requests that cannot be concatenated."""


def check_batching(parameters: BatchingParameters) -> None:
    """Checks the batching parameters.

    Stricter than TF Serving on `allowed_batch_sizes`, which must increase.

    Raises:
        UserError: A value is invalid; the message names it.
    """
    problem = _problem(parameters)
    if problem:
        raise UserError(f"batching parameters: {problem}")


def _problem(parameters: BatchingParameters) -> str | None:
    size, execution = _sizes(parameters)
    threads = _value(parameters, "num_batch_threads", 1)
    enqueued = _value(parameters, "max_enqueued_batches", _MAX_ENQUEUED_BATCHES)
    timeout = parameters.batch_timeout_micros.value
    splitting = parameters.enable_large_batch_splitting.value
    allowed = list(parameters.allowed_batch_sizes)
    if size < 1:
        return f"max_batch_size must be positive; was {size}"
    if threads < 1:
        return f"num_batch_threads must be positive; was {threads}"
    if timeout < 0:
        return f"batch_timeout_micros must be non-negative; was {timeout}"
    if enqueued < (1 if splitting else 0):  # as in TF Serving; without splitting, 0 means 1
        return f"max_enqueued_batches must be positive; was {enqueued}"
    if not 1 <= execution <= size:
        return f"max_execution_batch_size must be from 1 to max_batch_size {size}; was {execution}"
    if allowed != sorted(set(allowed)) or min(allowed, default=1) < 1:
        return f"allowed_batch_sizes entries must be monotonically increasing; were {allowed}"
    if allowed and allowed[-1] != size:
        return (
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{allowed[-1]}; expected {size}"
        )
    return None


def _value(parameters: BatchingParameters, name: str, default: int) -> int:
    return getattr(parameters, name).value if parameters.HasField(name) else default


def _sizes(parameters: BatchingParameters) -> tuple[int, int]:
    """The largest number of rows of a request, and of a batch."""
    size = _value(parameters, "max_batch_size", _MAX_BATCH_SIZE)
    if not parameters.enable_large_batch_splitting.value:
        return size, size
    return size, _value(parameters, "max_execution_batch_size", size)


@dataclass
class _Task:
    """A request, or the part of one that fits in a batch; `deadline` is a time.monotonic time."""

    feeds: _Tensors
    size: int
    deadline: float
    future: futures.Future = field(default_factory=futures.Future)


@dataclass
class _Batch:
    """Tasks that run together; `opened` is a time.monotonic time."""

    opened: float
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0


class Batcher:
    """Concatenates requests that feed and fetch the same tensors along the first dimension.

    A request waits until its batch is full or `batch_timeout_micros` old, and a batch thread is
    free. A request that is alone in its batch is passed on without a copy. When a batch fails, each
    of its requests is run again on its own, so that one bad request does not fail the others.

    Args:
        parameters: Batching parameters; see `check_batching`.
        compute: Runs a batch. Receives arrays by tensor name, the names of the tensors to fetch and
            the seconds left (None: no deadline); returns the fetched values by name.

    Raises:
        ServingError: INVALID_ARGUMENT: the parameters are invalid.
    """

    def __init__(
        self,
        parameters: BatchingParameters,
        compute: Callable[[_Tensors, tuple[str, ...], float | None], _Tensors],
    ):
        problem = _problem(parameters)
        if problem:
            raise invalid(problem)
        self._compute = compute
        self._largest_task, self._largest_batch = _sizes(parameters)
        self._splits = parameters.enable_large_batch_splitting.value
        self._pads = parameters.pad_variable_length_inputs
        self._allowed = list(parameters.allowed_batch_sizes)
        self._wait = parameters.batch_timeout_micros.value / 1e6
        enqueued = _value(parameters, "max_enqueued_batches", _MAX_ENQUEUED_BATCHES)
        self._max_batches = max(1, enqueued)
        self._queues: dict[tuple, deque[_Batch]] = {}  # in the order of their turn; none is empty
        self._changed = threading.Condition()
        self._closing = False
        count = _value(parameters, "num_batch_threads", os.cpu_count() or 1)
        name = parameters.thread_pool_name.value or "batches"
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self, feeds: _Tensors, fetches: tuple[str, ...], timeout: float | None = None
    ) -> _Tensors:
        """Runs a request as part of a batch.

        Args:
            feeds: Arrays by tensor name, all with the same first dimension.
            fetches: Names of the tensors to fetch.
            timeout: Timeout in seconds; None: no timeout.

        Returns:
            The rows of the fetched tensors that belong to `feeds`, by tensor name.

        Raises:
            ServingError: With TF Serving's messages. INVALID_ARGUMENT: inputs with different
                numbers of rows, or more rows than `max_batch_size`; UNAVAILABLE: the queue is full;
                DEADLINE_EXCEEDED: no result in time; FAILED_PRECONDITION: an output does not have
                one value per row; or an error of the model itself.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        tasks = self._enqueue(feeds, fetches, deadline)
        try:
            results = [task.future.result(_seconds_until(deadline)) for task in tasks]
        except futures.TimeoutError:
            raise _too_late() from None
        finally:
            for task in tasks:
                task.future.cancel()  # tasks that are still queued are not computed
        if len(results) == 1:
            return results[0]
        return {name: np.concatenate([part[name] for part in results]) for name in fetches}

    def close(self) -> None:
        """Runs the queued tasks, then ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, feeds: _Tensors, fetches: tuple[str, ...], deadline: float) -> list[_Task]:
        size = _size(feeds)
        # A wrong dtype must reach the model unchanged: NumPy would convert it in a concatenation.
        key = (frozenset((name, array.dtype) for name, array in feeds.items()), fetches)
        with self._changed:
            if self._closing:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "the model is being unloaded")
            batches = self._queues.get(key, deque())
            tasks, start = [], 0
            for part in self._parts(batches, size):
                rows = feeds if part == size else _rows(feeds, start, start + part)
                tasks.append(_Task(rows, part, deadline))
                start += part
            for task in tasks:
                if not batches or batches[-1].size + task.size > self._largest_batch:
                    batches.append(_Batch(time.monotonic()))
                batches[-1].tasks.append(task)
                batches[-1].size += task.size
            self._queues[key] = batches
            self._changed.notify(len(tasks))
        return tasks

    def _parts(self, batches: deque[_Batch], size: int) -> list[int]:
        """Numbers of rows that a request is split into; refuses it if the queue is full."""
        if size > self._largest_task:
            raise invalid(
                f"Task size {size} is larger than maximum input batch size {self._largest_task}"
            )
        count = max(1, len(batches))  # TF Serving counts an open batch even while it is empty
        used = batches[-1].size if batches else 0
        room = self._largest_batch - used
        if size <= room:
            return [size]
        if not self._splits:
            if count >= self._max_batches:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"{_FULL}; currently {count} batches enqueued and max_enqueued_batches is "
                    f"{self._max_batches}",
                )
            return [size]
        capacity = (self._max_batches - count) * self._largest_batch + room
        if size > capacity:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"{_FULL}; task size is {size} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={count}, max_enqueued_batches={self._max_batches}, "
                f"open_batch_size={used}, max_execution_batch_size={self._largest_batch})",
            )
        whole, rest = divmod(size - room, self._largest_batch)
        return [part for part in (room, *[self._largest_batch] * whole, rest) if part]

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._process(*batch)

    def _next(self) -> tuple[list[_Task], tuple[str, ...]] | None:
        """Waits for a batch that can run, with the queues in turn; None after `close`."""
        with self._changed:
            while True:
                now, due = time.monotonic(), math.inf
                for key, batches in self._queues.items():
                    ready_at = batches[0].opened + self._wait
                    full = len(batches) > 1 or batches[0].size >= self._largest_batch
                    if full or self._closing or ready_at <= now:
                        del self._queues[key]
                        tasks = batches.popleft().tasks
                        if batches:
                            self._queues[key] = batches
                        self._changed.notify()  # another batch may be due by now
                        return tasks, key[1]
                    due = min(due, ready_at)
                if self._closing:
                    return None
                self._changed.wait(_seconds_until(due))

    def _process(self, tasks: list[_Task], fetches: tuple[str, ...]) -> None:
        """Runs the tasks of a batch that have not been cancelled."""
        self._answer([t for t in tasks if t.future.set_running_or_notify_cancel()], fetches)

    def _answer(self, tasks: list[_Task], fetches: tuple[str, ...]) -> None:
        now = time.monotonic()
        for task in tasks:
            if task.deadline <= now:
                task.future.set_exception(_too_late())
        tasks = [task for task in tasks if task.deadline > now]
        if not tasks:
            return
        try:
            results = self._run_together(tasks, fetches)
        except Exception as error:  # waiting callers must receive any error
            if len(tasks) == 1:
                tasks[0].future.set_exception(error)
                return
            for task in tasks:
                self._answer([task], fetches)
        else:
            for task, result in zip(tasks, results, strict=True):
                task.future.set_result(result)

    def _run_together(self, tasks: list[_Task], fetches: tuple[str, ...]) -> list[_Tensors]:
        size = sum(task.size for task in tasks)
        padding = self._padding(size)
        feeds = {name: self._merge(name, tasks, padding) for name in tasks[0].feeds}
        values = self._compute(feeds, fetches, _seconds_until(max(t.deadline for t in tasks)))
        for value in values.values():
            _check_rows(value, size + padding)
        results, start = [], 0
        for task in tasks:
            results.append(_rows(values, start, start + task.size))
            start += task.size
        return results

    def _padding(self, size: int) -> int:
        """Rows that pad a batch to an allowed size; an empty batch is not padded."""
        return next((allowed - size for allowed in self._allowed if allowed >= size > 0), 0)

    def _merge(self, name: str, tasks: list[_Task], padding: int) -> np.ndarray:
        arrays = [task.feeds[name] for task in tasks]
        if len({array.shape[1:] for array in arrays}) > 1:
            if not self._pads or len({array.ndim for array in arrays}) > 1:
                raise _IncompatibleError
            inner = tuple(np.max([array.shape[1:] for array in arrays], axis=0))
            arrays = [_padded(array, inner) for array in arrays]
        if padding:
            row = next(array for array in reversed(arrays) if len(array))[:1]
            arrays += [row] * padding
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _size(feeds: _Tensors) -> int:
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _rows(tensors: _Tensors, start: int, stop: int) -> _Tensors:
    return {name: array[start:stop] for name, array in tensors.items()}


def _check_rows(value: np.ndarray, count: int) -> None:
    code = grpc.StatusCode.FAILED_PRECONDITION
    if np.ndim(value) == 0:
        raise ServingError(code, "Batched output tensor has 0 dimensions")
    if len(value) != count:
        raise ServingError(
            code,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        )


def _padded(array: np.ndarray, inner: tuple[int, ...]) -> np.ndarray:
    """Pads each row to a shape with the array's first value, as TF Serving does."""
    if array.shape[1:] == inner:
        return array
    if not array.size:
        raise _IncompatibleError
    padded = np.full((len(array), *inner), array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _too_late() -> ServingError:
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def _seconds_until(moment: float) -> float | None:
    """Seconds until a time.monotonic time, at least 0; None if it is infinite."""
    return None if moment == math.inf else max(0.0, moment - time.monotonic())
