"""Data sets as TFRecord files ("shards"): few large files, which may be on remote storage.

A folder of shards has an index, `shards.npz`, with the names, splits and labels of the images and
the position of each image's record, so that images can be read in any order: batches are those of
the original files. Each record is a `tf.train.Example` with the encoded `image`, and `label_map` if
the data set has label maps. All paths go through `tf.io.gfile`. Images are decoded by Pillow, as
files are: by TensorFlow operations it took longer (docs/your-images.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tfface.data.base import SHARD
from tfface.data.files import EXEMPLARS, FileSource, check_names, parse_lists
from tfface.data.image_ops import decode
from tfface.data.images import load_image, to_array, to_image, to_png
from tfface.data.label_maps import load_label_map, to_labels
from tfface.errors import UserError
from tfface.progress import progress

INDEX = "shards.npz"
_HEAD = struct.Struct("<QI")
"""Length and its checksum, before each record of a TFRecord file."""
_TAIL = 4
"""Bytes of the checksum after a record."""


class ShardedFaces(FileSource):
    """A data set written by `write_shards`, whose batches are those of the original files."""

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        index = _read_index(data.path)
        facts = self._facts = json.loads(str(index["facts"]))
        if facts["name"] != data.name:
            raise UserError(
                f"{data.path} has shards of data.name {facts['name']!r}, not {data.name!r}"
            )
        if 0 < facts["size"] < data.size:
            raise UserError(
                f"data.size is {data.size}, but the images of the shards in {data.path} were "
                f"resized to {facts['size']}"
            )
        root = Path(data.path)
        check_names("attribute", attributes, facts["tags"], root)
        check_names("class", classes, facts["classes"], root)
        self._from_files = tuple(facts["fields"])
        rows, labels = np.arange(len(index["names"])), {}
        if facts["classes"]:
            self.classes = tuple(classes) or tuple(facts["classes"])
            order = {facts["classes"].index(name): i for i, name in enumerate(self.classes)}
            expression = np.array([order.get(k, -1) for k in index["expression"]], np.int32)
            rows = np.flatnonzero(expression >= 0)
            if data.name == "folder":  # Its images are in the order of the classes.
                rows = rows[np.argsort(expression[rows], kind="stable")]
            labels["expression"] = expression[rows]
        columns = [facts["tags"].index(name) for name in attributes]
        if columns:
            labels["attributes"] = index["tags"][rows][:, columns].astype(np.int32)
        self._records = {key: index[key][rows] for key in ("shard", "offset", "length")}
        self._handles = threading.local()
        self._set_files(
            root,
            index["names"][rows].tolist(),
            index["splits"][rows],
            labels,
            {name: index["tags"][rows, i] for i, name in enumerate(facts["tags"])},
        )
        # Of images that could not be read; the next one takes the place of each, as in files.
        self._bad |= {
            (int(row), kinds)
            for row in np.flatnonzero(self._records["length"] == 0)
            for kinds in (("image",), ("image", "label_map"))
        }

    def select(self, split, *where):
        """Shards have no files of single images.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.data.path}: expected the original files, not shards")

    def _lists(self, rows):
        where = f"{self.data.path}, {EXEMPLARS}"
        return parse_lists(self._facts["exemplars"], where, self._names, rows)

    def _record(self, row: int) -> bytes:
        """The record of an image."""
        name = self._facts["files"][self._records["shard"][row]]
        if name not in self._handles.__dict__:
            setattr(self._handles, name, tf.io.gfile.GFile(_join(self.data.path, name), "rb"))
        handle = getattr(self._handles, name)
        handle.seek(int(self._records["offset"][row]))
        return handle.read(int(self._records["length"][row]))

    def _read_fields(self, row, kinds):
        example = tf.train.Example.FromString(self._record(row)).features.feature
        name = f"{self._names[row]} in {self.data.path}"
        stored = {"image": load_image(example["image"].bytes_list.value[0], name)}
        if "label_map" in kinds:
            labels = example["label_map"].bytes_list.value[0]
            stored["label_map"] = load_label_map(labels, name=name)
        return stored


def is_sharded(path: str) -> bool:
    """Whether a folder has shards."""
    return tf.io.gfile.exists(_join(path, INDEX))


def write_shards(
    source: FileSource, out: str, *, size: int | None = None, images: int = SHARD
) -> list[str]:
    """Writes a data set as shards; a run that was stopped continues.

    The bytes of JPEG and PNG files are kept, other formats become PNG. Images that cannot be read
    are replaced by the next one when batches are read, as in files.

    Args:
        source: The data set, opened with all classes, and with label maps if it has them.
        out: Folder, also a remote one (`gs://...`); created if missing.
        size: Store the central squares of images and label maps at this size, as PNG; None: the
            original files.
        images: Number of images in a shard.

    Returns:
        Names of the images that cannot be read.

    Raises:
        UserError: `out` has shards of something else, a file cannot be written, or more than 1 %
            of the images cannot be read.
    """
    listing = source.listing()
    plan = repr((source.data.name, source.kinds, size, images, listing.names)).encode()
    plan = hashlib.blake2b(plan, digest_size=4).hexdigest()
    parts = [listing.rows[i : i + images] for i in range(0, len(listing.rows), images)]
    files = [f"{plan}-{i:05}-of-{len(parts):05}.tfrecord" for i in range(len(parts))]
    tf.io.gfile.makedirs(out)
    others = [n for n in tf.io.gfile.listdir(out) if n.endswith(".tfrecord") and n not in files]
    if others:
        raise UserError(
            f"{out} has shards of other images, another size or number, such as {others[0]}; "
            f"choose another folder"
        )

    def encode(row: int) -> bytes:
        loaded = source.load(int(row))
        return _encode(*loaded, size) if loaded else b""

    spans = []
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, rows in bar.track([*zip(files, parts, strict=True)], description="shards"):
            path = _join(out, name)
            if not tf.io.gfile.exists(path):
                with _written(path) as temporary, tf.io.TFRecordWriter(temporary) as writer:
                    for record in pool.map(encode, rows):
                        writer.write(record)
            spans.append(_read_spans(path))
    lengths = np.concatenate(spans)
    exemplars = Path(source.data.path) / EXEMPLARS
    facts = {
        "name": source.data.name,
        "size": size or 0,
        "fields": source.kinds,
        "classes": source.classes,
        "tags": list(listing.tags),
        "files": files,
        "exemplars": exemplars.read_text() if exemplars.exists() else "",
    }
    content, count = io.BytesIO(), len(listing.names)
    np.savez_compressed(
        content,
        facts=json.dumps(facts),
        names=np.array(listing.names),
        splits=listing.splits,
        expression=np.zeros(count, np.int32) if listing.expression is None else listing.expression,
        tags=np.array([*listing.tags.values()], bool).reshape(-1, count).T,
        shard=np.repeat(np.arange(len(files)), [len(part) for part in parts]),
        offset=lengths[:, 0],
        length=lengths[:, 1],
    )
    with _written(_join(out, INDEX)) as temporary, tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(content.getvalue())
    return [listing.names[i] for i in np.flatnonzero(lengths[:, 1] == 0)]


def _encode(file: Path, stored: dict, size: int | None) -> bytes:
    """The record of an image, from its file and its fields."""
    features = {}
    if size:
        features["image"] = to_png(to_image(to_array(stored["image"], size)))
    else:
        content = file.read_bytes()
        features["image"] = content if _decodes(content) else to_png(stored["image"])
    if "label_map" in stored:
        labels = stored["label_map"]
        labels = to_labels(labels, size).astype(np.uint8) if size else labels
        features["label_map"] = to_png(Image.fromarray(labels))
    return _example(features)


def _decodes(content: bytes) -> bool:
    """Whether TensorFlow decodes an image file."""
    try:
        decode(tf.constant(content))
    except tf.errors.OpError:
        return False
    return True


def _example(features: dict[str, bytes]) -> bytes:
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for key, value in features.items()
            }
        )
    ).SerializeToString()


@contextlib.contextmanager
def _written(path: str) -> Iterator[str]:
    """A temporary name to write to, which becomes `path` at the end of the block."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written: {error.message}") from error
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)


def _read_spans(path: str) -> np.ndarray:
    """Offset and length of each record in a TFRecord file, int64 [N,2]."""
    spans, offset = [], 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while head := file.read(_HEAD.size):
            length, _ = _HEAD.unpack(head)
            spans.append((offset + _HEAD.size, length))
            offset += _HEAD.size + length + _TAIL
            file.seek(offset)
    return np.array(spans, np.int64).reshape(-1, 2)


def _read_index(path: str) -> dict[str, np.ndarray]:
    with tf.io.gfile.GFile(_join(path, INDEX), "rb") as file:
        content = io.BytesIO(file.read())
    try:
        with np.load(content) as index:
            return dict(index)
    except Exception as error:
        raise UserError(f"{_join(path, INDEX)}: cannot be read: {error}") from error


def _join(folder: str, name: str) -> str:
    return f"{str(folder).rstrip('/')}/{name}"
