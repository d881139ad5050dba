"""AsyncFaceClient: concurrent requests, their order, failures and cancellation."""

from __future__ import annotations

import asyncio
import threading
import types

import grpc
import numpy as np
import pytest
from client_helpers import TLS, echo, free_port, grpc_stand_in, negative
from tiny_models import SIZE, faces, image, save, wait_for

import tfface.client.packing
from tfface.client import AsyncFaceClient, FaceClient, ServerError, driving
from tfface.errors import UserError
from tfface.server import tensors
from tfface.server.app import Server

IMAGES = [image(seed) for seed in range(10)]


def test_every_method_is_awaited(tmp_path):
    save(tmp_path / "1", ("serving_default", "bytes"))

    async def main(target):
        async with AsyncFaceClient(target) as client:
            await client.wait_until_ready(20)
            assert await client.status() == {1: ("AVAILABLE", "")}
            metadata = await client.metadata()
            assert metadata["bytes"]["inputs"]["image_bytes"]["dtype"] == "string"
            outputs = await client.predict({"image": faces(), "expression": ["a", "b"]})
            assert outputs["image"].shape == (2, SIZE, SIZE, 3)
            edited = await client.change_expression(image(), "happy")
            assert np.array_equal(edited, negative(image()))
            assert await client.change_expression([], "happy") == []
            with pytest.raises(ServerError, match="FAILED_PRECONDITION: Serving signature key"):
                await client.segment(image())
            with pytest.raises(UserError, match="lists of different lengths"):
                await client.change_expression(IMAGES[:2], ["a", "b", "c"])

    with Server(tmp_path) as server:
        asyncio.run(main(f"127.0.0.1:{server.port}"))


def ask(target, images=IMAGES, **options):
    """Edits images one by one."""

    async def main():
        async with AsyncFaceClient(target, max_request_images=1, **options) as client:
            return await client.change_expression(images, "happy")

    return asyncio.run(main())


def sent(request):
    """The number of the image that a request has."""
    [data] = tensors.to_array(request.inputs["image_bytes"])
    [decoded] = tfface.client.packing.decode([data])
    return next(i for i, p in enumerate(IMAGES) if np.array_equal(decoded, p))


def test_results_keep_their_order():
    third = threading.Event()

    def predict(request, context):
        if sent(request) == 2:
            third.set()
        assert third.wait(20)
        return echo(request)

    with grpc_stand_in(predict) as target:
        edited = ask(target)
    assert all(np.array_equal(e, p) for e, p in zip(edited, IMAGES, strict=True))


def test_four_requests_run_concurrently():
    lock, full = threading.Lock(), threading.Event()
    running = most = 0

    def predict(request, context):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 4:
                full.set()
        assert full.wait(20)
        with lock:
            running -= 1
        return echo(request)

    with grpc_stand_in(predict) as target:
        assert len(ask(target)) == 10
    assert most == 4


def test_first_error_cancels_a_list():
    asked, sent_others, gone = [], threading.Event(), threading.Event()

    def predict(request, context):
        number = sent(request)
        asked.append(number)
        if number == 1:
            assert sent_others.wait(20)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this one")
        if number in (2, 3):
            context.add_callback(gone.set)
            sent_others.set()
            assert gone.wait(20)  # it is cancelled before its reply
        return echo(request)

    with grpc_stand_in(predict) as target:
        with pytest.raises(ServerError, match="INVALID_ARGUMENT: not this one"):
            ask(target)
        assert gone.wait(20)
    assert len(asked) < 10


def test_unreadable_image_cancels_a_list():
    asked = []
    with grpc_stand_in(lambda request, _: asked.append(1) or echo(request)) as target:
        with pytest.raises(UserError, match="the image: not an image"):
            ask(target, [*IMAGES[:6], b"no image", *IMAGES])
    assert len(asked) <= 6


def test_cancelled_call_cancels_its_requests():
    asked, gone, end = [], [], threading.Event()

    def predict(request, context):
        if end.is_set():
            return echo(request)
        context.add_callback(lambda: gone.append(1))
        asked.append(1)
        assert end.wait(20)
        return echo(request)

    async def main(target):
        async with AsyncFaceClient(target, max_request_images=1) as client:
            call = asyncio.create_task(client.change_expression(IMAGES, "happy"))
            await asyncio.to_thread(wait_for, lambda: len(asked) == 4)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.to_thread(wait_for, lambda: len(gone) == 4)
            end.set()
            return await client.change_expression(IMAGES[0], "happy")  # It can still be used.

    with grpc_stand_in(predict) as target:
        assert np.array_equal(asyncio.run(main(target)), IMAGES[0])
    assert len(asked) == 4


def test_unavailable_server_is_retried_until_the_deadline():
    port = free_port()
    target = f"127.0.0.1:{port}"

    async def main():
        async with AsyncFaceClient(target, timeout=0.4) as client:
            with pytest.raises(ServerError, match=f"UNAVAILABLE: {target} is not available"):
                await client.status()
            client.timeout = 20
            call = asyncio.create_task(client.change_expression(IMAGES[0], "happy"))
            await asyncio.sleep(0)
            with grpc_stand_in(echo, port=port):
                assert np.array_equal(await call, IMAGES[0])

    asyncio.run(main())


def test_images_are_encoded_and_decoded_in_threads(monkeypatch):
    threads = set()
    for name in ("_png", "decode"):
        function = getattr(tfface.client.packing, name)

        def noted(value, function=function):
            threads.add(threading.current_thread())
            return function(value)

        monkeypatch.setattr(tfface.client.packing, name, noted)
    with grpc_stand_in(echo) as target:
        ask(target)
    assert threads and threading.main_thread() not in threads


def test_tls():
    key, certificate = ((TLS / name).read_bytes() for name in ("server.key", "server.pem"))
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with grpc_stand_in(echo, credentials=credentials) as target:
        assert len(ask(target, tls=TLS / "ca.pem")) == 10


def test_blocking_client_works_inside_an_event_loop():
    async def main(target):
        with FaceClient(target, max_request_images=1) as client:
            return client.change_expression(IMAGES, "happy")

    with grpc_stand_in(echo) as target:
        assert len(asyncio.run(main(target))) == 10


def test_client_can_be_created_before_the_event_loop():
    async def main(client):
        async with client:
            return await client.change_expression(IMAGES[0], "happy")

    with grpc_stand_in(echo) as target:
        assert np.array_equal(asyncio.run(main(AsyncFaceClient(target))), IMAGES[0])


def test_blocking_client_never_awaits():
    @types.coroutine
    def suspended():
        yield

    class Client:
        _driver = driving.Blocking()

        @driving.shared
        async def wait(self):
            await suspended()

    with pytest.raises(RuntimeError, match="awaited an event loop"):
        Client().wait()
