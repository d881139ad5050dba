"""A few bytes cannot fill the server's memory or keep it busy."""

from __future__ import annotations

import gzip
import io
import struct
import time
import types
import zlib

import grpc
import numpy as np
import pytest
from PIL import Image
from rest_calls import PREDICT, asked
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import classification_pb2
from tiny_models import Stubs, failure, good, image, png, request, save

from tfface.client import packing
from tfface.data.image_heads import image_size
from tfface.server import tensors
from tfface.server.app import Server
from tfface.server.limits import check_images
from tfface.server.status import ServingError

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path)
    with Server(path.parent, model_name="g", rest_port=0, max_request_pixels=10**6) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server):
    return Stubs(server)


def claims(dtype, *shape, **values):
    """A tensor with fewer values than its shape."""
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        claims(types_pb2.DT_STRING, 2**24, string_val=[b"a"]),
        claims(types_pb2.DT_STRING, 257, string_val=[b"a"]),
        claims(types_pb2.DT_STRING, 250, string_val=[b"a" * 300_000]),
        claims(types_pb2.DT_STRING, 2**20 + 1, string_val=[b""] * (2**20 + 1)),
        claims(types_pb2.DT_STRING, 0, 2**40),
        claims(types_pb2.DT_FLOAT, 2**22 + 1, float_val=[0]),
        claims(types_pb2.DT_FLOAT, 0, 2**40),
        claims(types_pb2.DT_INT64, 2**25),
        claims(types_pb2.DT_BOOL, 2**27, bool_val=[True]),
        claims(types_pb2.DT_HALF, 2**26, half_val=[1]),
    ],
    ids=lambda proto: f"{proto.dtype}{[d.size for d in proto.tensor_shape.dim]}",
)
def test_tensors_much_larger_than_sent_are_refused(stubs, proto):
    began = time.monotonic()
    for bad in (request("types", x=proto), request("bytes", image_bytes=proto, expression=proto)):
        code, text = failure(stubs.predict, bad)
        assert (code, text[:21]) == (Code.INVALID_ARGUMENT, "tensor parsing error:")
    assert time.monotonic() - began < 5


def test_single_value_can_fill_a_batch_of_images():
    batch = claims(types_pb2.DT_FLOAT, 32, 256, 256, 1, float_val=[0.5])
    assert tensors.to_array(batch).shape == (32, 256, 256, 1)
    label = claims(types_pb2.DT_STRING, 32, string_val=[b"happy"])
    assert tensors.to_array(label).tolist() == [b"happy"] * 32


def test_too_large_context_is_refused(stubs):
    bad = classification_pb2.ClassificationRequest()
    bad.model_spec.name = "g"
    given = bad.input.example_list_with_context
    given.context.features.feature["a"].bytes_list.value.append(b"a" * 2**20)
    for _ in range(1000):
        given.examples.add()
    # The model has no signature for classification, which is reported after the input's check.
    code, _ = failure(stubs.prediction.Classify, bad)
    assert code is Code.INVALID_ARGUMENT


def claimed_jpeg(height, width):
    """A JPEG of a few hundred bytes whose header has a larger size."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG")
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def flat_png(height, width):
    """A highly compressed PNG."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "files",
    [[claimed_jpeg(7000, 7000)], [flat_png(1100, 1000)], [flat_png(600, 600)] * 3],
    ids=["JPEG", "PNG", "several"],
)
def test_too_large_images_are_refused(stubs, files):
    bad = request("bytes", image_bytes=files, expression=["sad"] * len(files))
    code, text = failure(stubs.predict, bad)
    assert (code, "at most 1000000 pixels in a request" in text) == (Code.INVALID_ARGUMENT, True)
    files = [flat_png(900, 1000)]
    assert stubs.predict(request("bytes", image_bytes=files, expression=["sad"])).outputs


def test_highly_compressed_images_are_refused():
    for files in ([claimed_jpeg(7000, 7000)], [flat_png(2000, 2000)] * 2):
        with pytest.raises(ServingError, match="fewer for highly compressed images"):
            check_images(files, 10**9)
        check_images(files, 0)
    repeated = [claimed_jpeg(120, 120)] * 300  # sent once, repeated in 300 rows
    with pytest.raises(ServingError, match="4320000 pixels in 6.. bytes"):
        check_images(repeated, 10**9)
    photograph = claimed_jpeg(6000, 8000) + bytes(4 * 10**6)
    check_images([photograph], 10**9)


@pytest.mark.parametrize("size", [(1, 1), (300, 7), (70, 1000)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}),
        ("WEBP", {}), ("WEBP", {"lossless": True}),
    ],
)  # fmt: skip
def test_image_sizes_are_read_from_headers(kind, options, size):
    file = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(file, format=kind, **options)
    data = file.getvalue()
    assert image_size(data) == size[::-1]
    for end in range(0, len(data), 7):
        assert image_size(data[:end]) in ((0, 0), size[::-1])


def test_image_sizes_of_extended_webp_and_of_jpegs_with_garbage_between_markers():
    file = io.BytesIO()
    Image.new("RGBA", (30, 20), (1, 2, 3, 4)).save(file, format="WEBP", exif=b"Exif\0\0")
    assert image_size(file.getvalue()) == (20, 30)
    data = claimed_jpeg(70, 60)
    place = data.index(b"\xff\xdb")
    garbage = b"\0\xff\0" * 100 + b"\xff" * 9
    assert image_size(data[:place] + garbage + data[place:]) == (70, 60)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        changed = bytearray(data)
        changed[rng.integers(2, 60)] = rng.integers(256)
        height, width = image_size(bytes(changed))
        assert 0 <= height < 2**16 and 0 <= width < 2**16


def test_client_sends_no_more_pixels_than_the_server_accepts():
    rows = [{"image_bytes": flat_png(2000, 2000)} for _ in range(3)]
    sizes = [len(group) for group in packing.requests(iter(rows), 16, 10**9, len)]
    assert sizes == [1, 1, 1]
    rows = [{"image_bytes": png(image())} for _ in range(3)]
    sizes = [len(group) for group in packing.requests(iter(rows), 16, 10**9, len)]
    assert sizes == [3]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"inputs": [' + b"[]," * 2**21 + b"[]]}", "lists and objects"),
        (b'{"inputs": [' + b"0," * 2**22 + b"0]}", "values"),
        (b'{"inputs": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
        (b'{"inputs": ' + b"[" * 10**5 + b"NaN" + b"]" * 10**5 + b"}", "nested too deeply"),
    ],
    ids=["lists", "values", "depth", "depth and NaN"],
)
def test_too_large_json_is_refused(server, stubs, body, expected):
    began = time.monotonic()
    zipped = gzip.compress(body, 1)
    rest = types.SimpleNamespace(port=server.rest_port)
    status, document = asked(rest, PREDICT, zipped, headers={"Content-Encoding": "gzip"})
    assert (status, expected in document["error"]) == (400, True)
    assert time.monotonic() - began < 5
    assert stubs.predict(good()).outputs["count"].int_val == [2]
