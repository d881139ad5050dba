"""Dynamic batching: merging, splitting, padding, deadlines and errors."""

from __future__ import annotations

import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import request, wait_for

from tfface.errors import UserError
from tfface.server.batching import Batcher, check_batching
from tfface.server.predict import predict
from tfface.server.protos import BatchingParameters
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError

Code = grpc.StatusCode
HOUR = 3_600_000_000
FETCHES = ("double:0",)


def parameters(allowed_batch_sizes=(), pad_variable_length_inputs=False, **values):
    return BatchingParameters(
        allowed_batch_sizes=allowed_batch_sizes,
        pad_variable_length_inputs=pad_variable_length_inputs,
        **{name: {"value": value} for name, value in values.items()},
    )


class Doubler:
    """Runs a batch: doubles `x:0`, records its inputs, and can be blocked."""

    def __init__(self):
        self.batches, self.timeouts = [], []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, feeds, fetches, timeout):
        self.batches.append(feeds["x:0"])
        self.timeouts.append(timeout)
        assert self.go.wait(20)
        return {name: self.double(feeds["x:0"]) for name in fetches}

    def double(self, x):
        return x + x


@pytest.fixture
def start():
    """Starts batchers that are closed after the test."""
    batchers, doubler = [], Doubler()

    def start_one(**values):
        batchers.append(Batcher(parameters(**values), doubler))
        return batchers[-1], doubler

    yield start_one
    doubler.go.set()
    for batcher in batchers:
        batcher.close()


def rows(*values):
    return {"x:0": np.array(values)}


def together(batcher, *feeds, fetches=FETCHES, timeout=20):
    """Submits all concurrently; returns results, or errors as (code, message), in order."""

    def run(feed):
        try:
            return batcher.run(feed, fetches, timeout)["double:0"].tolist()
        except ServingError as error:
            return error.code, error.message

    with futures.ThreadPoolExecutor(len(feeds)) as threads:
        return list(threads.map(run, feeds))


def refused(batcher, feeds, **options):
    with pytest.raises(ServingError) as caught:
        batcher.run(feeds, FETCHES, **options)
    return caught.value.code, caught.value.message


def test_concurrent_requests_are_merged_and_each_gets_its_own_rows(start):
    batcher, doubler = start(max_batch_size=6, batch_timeout_micros=HOUR)
    assert together(batcher, rows(1), rows(2, 3), rows(4, 5, 6)) == [[2], [4, 6], [8, 10, 12]]
    assert sorted(doubler.batches[0]) == [1, 2, 3, 4, 5, 6]
    assert len(doubler.batches) == 1


def test_strings_are_merged(start):
    batcher, doubler = start(max_batch_size=2, batch_timeout_micros=HOUR)
    feeds = [{"x:0": np.array([data], object)} for data in (b"a\0", b"")]
    assert together(batcher, *feeds) == [[b"a\0a\0"], [b""]]
    assert len(doubler.batches) == 1


def test_single_request_is_passed_on_without_a_copy(start):
    batcher, doubler = start()
    doubler.double = lambda x: x
    feeds = rows(1, 2)
    result = batcher.run(feeds, FETCHES)
    assert doubler.batches[0] is feeds["x:0"]
    assert np.shares_memory(result["double:0"], feeds["x:0"])


def test_partial_batch_runs_after_the_timeout(start):
    batcher, doubler = start(batch_timeout_micros=200_000)
    began = time.monotonic()
    assert together(batcher, rows(1)) == [[2]]
    assert 0.2 <= time.monotonic() - began < 10


def test_batches_fill_while_all_threads_are_busy(start):
    batcher, doubler = start(num_batch_threads=1, max_batch_size=4, batch_timeout_micros=HOUR)
    doubler.go.clear()
    with futures.ThreadPoolExecutor(9) as threads:
        running = [threads.submit(batcher.run, rows(0, 0, 0, 0), FETCHES)]
        wait_for(lambda: doubler.batches)
        running += [threads.submit(batcher.run, rows(i), FETCHES) for i in range(1, 9)]
        doubler.go.set()
        results = [future.result()["double:0"].tolist() for future in running]
    assert results == [[0, 0, 0, 0], *([2 * i] for i in range(1, 9))]
    assert list(map(len, doubler.batches)) == [4, 4, 4]


def test_requests_with_different_tensors_or_dtypes_are_not_merged(start):
    batcher, doubler = start(max_batch_size=2, batch_timeout_micros=HOUR)
    kinds = [(rows(1), ("double:0",)), (rows(1), ("double:0", "other:0")), (rows(1.5), FETCHES)]
    with futures.ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda kind: batcher.run(*kind), kinds * 2))
    assert len(doubler.batches) == 3
    assert {batch.dtype.kind for batch in doubler.batches} == {"i", "f"}


def test_allowed_sizes_pad_with_the_first_row_of_the_last_request(start):
    batcher, doubler = start(
        max_batch_size=8, allowed_batch_sizes=[2, 4, 8], batch_timeout_micros=100_000
    )
    assert together(batcher, rows(5, 6, 7)) == [[10, 12, 14]]
    assert doubler.batches[0].tolist() == [5, 6, 7, 5]
    assert together(batcher, rows(1, 2)) == [[2, 4]]
    assert doubler.batches[1].tolist() == [1, 2]
    assert together(batcher, {"x:0": np.zeros((0,))}) == [[]]  # an empty batch is not padded


def test_requests_with_different_inner_shapes_run_separately(start):
    batcher, doubler = start(max_batch_size=2, batch_timeout_micros=HOUR)
    assert together(batcher, rows([1]), rows([1, 2])) == [[[2]], [[2, 4]]]
    assert sorted(batch.shape for batch in doubler.batches) == [(1, 1), (1, 2)]


def test_inner_shapes_are_padded_with_the_first_value_of_each_request(start):
    batcher, doubler = start(
        max_batch_size=2, batch_timeout_micros=HOUR, pad_variable_length_inputs=True
    )
    assert together(batcher, rows([7, 1]), rows([8, 1, 2])) == [[[14, 2, 14]], [[16, 2, 4]]]
    assert len(doubler.batches) == 1
    assert together(batcher, rows([7]), rows([[8]])) == [[[14]], [[[16]]]]
    assert together(batcher, rows([]), rows([8.0])) == [[[]], [[16]]]


def test_large_requests_are_split_and_joined(start):
    batcher, doubler = start(
        max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=3
    )
    assert together(batcher, rows(*range(8))) == [list(range(0, 16, 2))]
    assert sorted(map(len, doubler.batches)) == [2, 3, 3]


def test_too_large_requests_are_refused(start):
    batcher, _ = start(max_batch_size=8)
    text = "Task size 9 is larger than maximum input batch size 8"
    assert refused(batcher, rows(*range(9))) == (Code.INVALID_ARGUMENT, text)


@pytest.mark.parametrize("splitting", [False, True])
def test_full_queue_is_unavailable(start, splitting):
    batcher, doubler = start(
        num_batch_threads=1, max_batch_size=1, max_enqueued_batches=1,
        enable_large_batch_splitting=splitting,
    )  # fmt: skip
    doubler.go.clear()
    with futures.ThreadPoolExecutor(4) as threads:
        running = [threads.submit(batcher.run, rows(1), FETCHES)]
        wait_for(lambda: doubler.batches)  # the only thread is busy; one more can wait
        running += [threads.submit(batcher.run, rows(1), FETCHES) for _ in range(3)]
        wait_for(lambda: sum(future.done() for future in running) == 2)
        doubler.go.set()
        errors = [error for future in running if (error := future.exception())]
    full = "The batch scheduling queue to which this task was submitted is full; "
    text = {
        False: "currently 1 batches enqueued and max_enqueued_batches is 1",
        True: "task size is 1 but scheduling capacity is only 0 (num_enqueued_batches=1, "
        "max_enqueued_batches=1, open_batch_size=1, max_execution_batch_size=1)",
    }
    assert [(e.code, e.message) for e in errors] == [(Code.UNAVAILABLE, full + text[splitting])] * 2


def test_each_request_has_its_own_deadline(start):
    batcher, doubler = start(num_batch_threads=1)
    doubler.go.clear()
    with futures.ThreadPoolExecutor(1) as threads:
        running = threads.submit(batcher.run, rows(1), FETCHES)
        wait_for(lambda: doubler.batches)
        late = refused(batcher, rows(2), timeout=0.05)  # expires while it is queued
        assert late == (Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        doubler.go.set()
        running.result()
    assert together(batcher, rows(3)) == [[6]]
    assert [batch.tolist() for batch in doubler.batches] == [[1], [3]]


def test_batch_timeout_is_the_latest_deadline(start):
    batcher, doubler = start(max_batch_size=2, batch_timeout_micros=HOUR)
    for timeouts, most in (((20, 500), 500), ((20, None), None)):
        with futures.ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda t: batcher.run(rows(1), FETCHES, t), timeouts))
        given = doubler.timeouts.pop()
        assert given is None if most is None else 480 < given <= most


def test_bad_request_does_not_fail_the_rest_of_its_batch(start):
    batcher, doubler = start(
        max_batch_size=4, batch_timeout_micros=HOUR, allowed_batch_sizes=[2, 4]
    )

    def fail(x):
        if (x < 0).any():
            raise ServingError(Code.ABORTED, "no")
        return x

    doubler.double = fail
    assert together(batcher, *map(rows, (1, -2, 3, -4))) == [[1], (Code.ABORTED, "no"), [3],
                                                             (Code.ABORTED, "no")]  # fmt: skip
    assert list(map(len, doubler.batches)) == [4, 2, 2, 2, 2]  # a single request is padded as usual
    assert together(batcher, *map(rows, (1, 2, 3, 4))) == [[1], [2], [3], [4]]


def test_each_request_has_its_own_deadline_after_a_failed_batch(start):
    batcher, doubler = start(max_batch_size=2, batch_timeout_micros=HOUR)

    def fail_slowly(x):
        if len(x) > 1:
            time.sleep(0.3)
            raise ServingError(Code.ABORTED, "no")
        return x

    doubler.double = fail_slowly
    with futures.ThreadPoolExecutor(2) as threads:
        late = threads.submit(refused, batcher, rows(1), timeout=0.1)
        good = threads.submit(batcher.run, rows(2), FETCHES, 20)
        assert late.result()[0] is Code.DEADLINE_EXCEEDED
        assert good.result()["double:0"].tolist() == [2]
    assert list(map(len, doubler.batches)) == [2, 1]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x:0": np.array(1)}, "Batching Run() input tensors must have at least one dimension"),
        ({"x:0": np.zeros(1), "y:0": np.zeros(2)},
         "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)  # fmt: skip
def test_inputs_must_have_equal_numbers_of_rows(start, feeds, message):
    batcher, _ = start()
    assert refused(batcher, feeds) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (b"string", "Batched output tensor has 0 dimensions"),
        (np.zeros(3), "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                      "dimension sizes of the input tensors"),
    ],
)  # fmt: skip
def test_outputs_must_have_one_value_per_row(start, output, message):
    batcher, doubler = start()
    doubler.double = lambda x: output
    assert refused(batcher, rows(1, 2)) == (Code.FAILED_PRECONDITION, message)


def test_close_runs_queued_requests_and_ends_the_threads(start):
    batcher, _ = start(
        max_batch_size=2, batch_timeout_micros=HOUR, max_enqueued_batches=1, thread_pool_name="pool"
    )

    def is_waiting():  # the batch has no room for two more rows
        try:
            batcher.run(rows(1, 2), FETCHES)
        except ServingError as error:
            return error.code is Code.UNAVAILABLE

    with futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(batcher.run, rows(4), FETCHES)
        wait_for(is_waiting)
        batcher.close()
        assert waiting.result()["double:0"] == [8]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pool")]
    assert refused(batcher, rows(1))[0] is Code.UNAVAILABLE


WRONG = [
    ({"max_batch_size": 0}, "max_batch_size must be positive; was 0"),
    ({"num_batch_threads": 0}, "num_batch_threads must be positive; was 0"),
    ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
    ({"max_enqueued_batches": -1}, "max_enqueued_batches must be positive; was -1"),
    ({"max_enqueued_batches": 0, "enable_large_batch_splitting": True},
     "max_enqueued_batches must be positive; was 0"),
    ({"allowed_batch_sizes": [2, 4]}, "Last entry in allowed_batch_sizes must match "
     "max_batch_size; last entry was 4; expected 1000"),
    ({"allowed_batch_sizes": [4, 2], "max_batch_size": 2}, "allowed_batch_sizes entries must be "
     "monotonically increasing; were [4, 2]"),
    ({"max_batch_size": 4, "max_execution_batch_size": 5, "enable_large_batch_splitting": True},
     "max_execution_batch_size must be from 1 to max_batch_size 4; was 5"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_invalid_parameters_are_refused(values, message):
    with pytest.raises(UserError) as caught:
        check_batching(parameters(**values))
    assert str(caught.value) == f"batching parameters: {message}"


def test_valid_parameters_are_accepted():
    check_batching(BatchingParameters())
    check_batching(parameters(max_enqueued_batches=0, max_batch_size=4, allowed_batch_sizes=[1, 4]))
    check_batching(parameters(max_execution_batch_size=9, max_batch_size=4))  # does not split


class Counted(tf.Module):
    def __init__(self):
        super().__init__()
        self.count = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
    def answer(self, x):
        count = self.count.assign_add(1)
        return {"y": -x, "run": tf.fill([tf.shape(x)[0]], count), "sum": tf.reduce_sum(x)}


def test_model_runs_once_for_concurrent_requests(tmp_path):
    counted = Counted()
    tf.saved_model.save(counted, str(tmp_path), {"serving_default": counted.answer})
    with pytest.raises(ServingError, match="max_batch_size must be positive"):
        SavedModel(tmp_path, parameters(max_batch_size=0))
    model = SavedModel(tmp_path, parameters(max_batch_size=3, batch_timeout_micros=HOUR))

    def ask(value, outputs=("run", "y"), dtype=np.float32):
        asked = request(x=np.full((1, 2), value, dtype), outputs=outputs)
        return predict(model, 1, asked, 20)[0]

    with futures.ThreadPoolExecutor(3) as threads:
        for run in (1, 2):
            for value, reply in enumerate(threads.map(ask, range(3))):
                assert reply["run"].tolist() == [run]
                assert reply["y"].tolist() == [[-value, -value]]
        failing = [threads.submit(ask, 1, ["sum"]) for _ in range(3)]
        assert {future.exception().code for future in failing} == {Code.FAILED_PRECONDITION}
        failing = [threads.submit(ask, 1, dtype=np.float64) for _ in range(3)]
        assert {future.exception().message for future in failing} == {
            "Expects arg[0] to be float but double is provided"
        }
    model.close()
