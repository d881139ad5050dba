"""Contract checks of exported models."""

from __future__ import annotations

import struct
import zlib

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image

from tfface.data.image_ops import to_squares
from tfface.data.images import load_image, paste_back, to_array, to_image, to_png
from tfface.data.label_map_ops import encode_labels, example_labels
from tfface.data.label_maps import load_label_map, to_labels
from tfface.exporting.saved_model import TOLERANCE, ties
from tfface.server.status import ServingError
from tfface.testing.case import Case, contract_check, require
from tfface.testing.training import eagerly


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


# A PNG file of a few bytes that declares 50,000 x 50,000 pixels.
BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    + _chunk(b"IEND", b"")
)


def _requests(case: Case, name: str, count: int) -> dict[str, np.ndarray]:
    """A random request with `count` images for a signature; labels as in its example."""
    rng = np.random.default_rng(count)
    signature, requests = case.method.signatures(case.nets)[name], {}
    for key, spec in signature.inputs.items():
        shape = (count, *signature.example[key].shape[1:])
        if spec.dtype == tf.float32:
            low = -1.0 if spec.shape.rank >= 4 else 0.0
            requests[key] = rng.uniform(low, 1, shape).astype(np.float32)
        elif key.endswith("_bytes"):
            if _is_map(case, key):
                files = [_map_png(case, 60 + 20 * i, 75) for i in range(count)]
            elif case.method.takes == "image":
                files = [_png(rng, 60 + 20 * i, 75) for i in range(np.prod(shape))]
            else:
                # Cropped but not resized: rounding could change which exemplar block is matched.
                size = case.config.data.size
                files = [_png(rng, size + 20 * i, size) for i in range(count)]
            requests[key] = np.array(files, object).reshape(shape)
        else:
            requests[key] = np.repeat(signature.example[key].numpy(), count, axis=0)
    return requests


def _is_map(case: Case, key: str) -> bool:
    """Whether an input of `bytes` is a label map or line drawing, not an image."""
    first = next(iter(case.method.signatures(case.nets)["bytes"].inputs))
    return case.method.takes != "image" and key == first


def _map_png(case: Case, width: int, height: int) -> bytes:
    labels = example_labels(max(width, height), case.method.takes == "lines")
    return encode_labels(labels[:, :height, :width])[0].numpy()


def _png(rng, width: int, height: int) -> bytes:
    """A smooth image, for which both resizing implementations differ in the last bits only."""
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return to_png(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@contract_check
def signatures(case: Case) -> None:
    """Exports loaded in either way reproduce the networks' outputs, for any batch size."""
    loaded = tf.saved_model.load(str(case.exported))
    require("serving_default" in loaded.signatures, "there is no serving_default")
    for name, signature in case.method.signatures(case.nets).items():
        for count in (1, 3):
            request = _requests(case, name, count)
            tensors = {
                k: tf.constant(v.tolist() if v.dtype == object else v) for k, v in request.items()
            }
            with eagerly():
                expected = signature.function(**tensors)
            ways = {
                "tf.saved_model.load": loaded.signatures[name](**tensors),
                "the v1 loader": case.served.run(
                    case.served.signatures[name], request, list(expected)
                ),
            }
            for way, outputs in ways.items():
                for key, value in expected.items():
                    pair, atol = [np.asarray(outputs[key]), value.numpy()], TOLERANCE
                    require(len(pair[0]) == count, f"{name} through {way}: {len(pair[0])} results")
                    if value.dtype == tf.string:
                        pair = [
                            np.stack([_decode(x) for x in y])
                            if count == 1
                            else np.concatenate([_decode(x).ravel() for x in y])
                            for y in pair
                        ]
                        atol = 1
                    if ties(key):
                        share = np.mean(pair[0] != pair[1])
                        require(share <= ties(key), f"{name} through {way}: {share:.1%} differ")
                        continue
                    np.testing.assert_allclose(*pair, atol=atol, err_msg=f"{name} through {way}")


def _decode(encoded: bytes) -> np.ndarray:
    return np.asarray(load_image(encoded), np.int16)


@contract_check
def bytes_signature(case: Case) -> None:
    """`bytes` decodes, crops and resizes, runs `serving_default`, and pastes back the edit.

    Edited images keep their size; images generated from label maps have the networks' size.
    """
    request = _requests(case, "bytes", 3)
    first = next(iter(request))
    result = case.served.run(case.served.signatures["bytes"], request, ["image_bytes"])
    results = [load_image(x) for x in result["image_bytes"]]
    originals = [load_image(x) for x in request[first]]
    size, tensors = case.config.data.size, {}
    lines, pasted = case.method.takes == "lines", case.method.takes == "image"
    for key, values in request.items():
        if key.endswith("_bytes"):
            if _is_map(case, key):
                values = np.stack([to_labels(load_label_map(x, lines), size) for x in values])
            else:
                arrays = np.stack([to_array(load_image(x), size) for x in values])
                # Use the graph's resized images: the networks would amplify the rounding
                # differences between the two resizing implementations.
                values = to_squares(tf.constant(values.tolist()), size).numpy()
                apart = np.abs(values - arrays).max() * 127.5
                require(apart <= 2, f"{key} differs by {apart:.1f} levels from the Python decoding")
            key = key.removesuffix("_bytes")
        tensors[key] = tf.constant(values.tolist() if values.dtype == object else values)
    edited = case.method.signatures(case.nets)["serving_default"].function(**tensors)["image"]
    squares = tensors[first.removesuffix("_bytes")].numpy()
    for original, actual, *arrays in zip(originals, results, edited.numpy(), squares, strict=True):
        expected_size = original.size if pasted else (size, size)
        require(actual.size == expected_size, f"{original.size} became {actual.size}")
        expected = paste_back(original, *arrays) if pasted else to_image(arrays[0])
        difference = np.abs(np.asarray(actual, np.int16) - np.asarray(expected, np.int16))
        most = difference.max()
        require(most <= 2, f"differs from the Python edit by {most} levels")


def _refused(case: Case, name: str, request: dict, what: str) -> str:
    """The error message of the served model for a request; fails if there is no error."""
    outputs = list(case.served.signatures[name].outputs)
    try:
        case.served.run(case.served.signatures[name], request, outputs)
    except ServingError as error:
        require(error.code == grpc.StatusCode.INVALID_ARGUMENT, f"{what}: {error.code}")
        return str(error)
    raise AssertionError(f"{what} was accepted")


@contract_check
def unknown_labels_are_refused(case: Case) -> None:
    """An unknown label is an INVALID_ARGUMENT that lists the known labels."""
    for name, signature in case.method.signatures(case.nets).items():
        request = _requests(case, name, 2)
        for key, spec in signature.inputs.items():
            if spec.dtype == tf.string and not key.endswith("_bytes"):
                labels = request[key].copy()
                known, labels.flat[-1] = labels.flat[0].decode(), "nonsense"
                message = _refused(case, name, {**request, key: labels}, key)
                require(known in message, f"{name} does not list the labels: {message}")


@contract_check
def bad_images_are_refused(case: Case) -> None:
    """Garbage, truncated files and huge images are rejected; the model still answers."""
    good = _requests(case, "bytes", 1)
    file = next(v for k, v in good.items() if k.endswith("_bytes"))[0]
    bad = {"garbage": b"garbage" * 9, "nothing": b"", "a truncated file": file[:50], "a bomb": BOMB}
    for key in good:
        if key.endswith("_bytes"):
            for what, content in bad.items():
                _refused(case, "bytes", {**good, key: np.array([content], object)}, what)
    case.served.run(case.served.signatures["bytes"], good, ["image_bytes"])
