"""Base class of the image file readers: ordering, decoding and handling of bad images."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfface.config import nearest
from tfface.data import images
from tfface.data.base import SPLITS, Source
from tfface.data.label_maps import FLIPPED, to_labels
from tfface.data.pipeline import Exit, pipeline
from tfface.errors import UserError

BAD_SHARE = 0.01
HELD_OUT_SHARE = 0.05
# As in CoCosNet's data/pix2pix_dataset.py: images are enlarged by this factor and randomly cropped;
# unpaired exemplars are the most similar image with probability 5/7, else the least similar.
ENLARGED = 286 / 256
EASY = 5 / 7
EXEMPLARS = "exemplars.txt"
_STRATIFIED_FROM = 10

logger = logging.getLogger("tfface")


class Listing(NamedTuple):
    """The images of a data set.

    Attributes:
        rows: Their rows, for `FileSource.load`, int [N].
        names: Their names.
        splits: Indices into SPLITS, int [N].
        expression: Indices of their expressions, int32 [N]; None if there are no classes.
        tags: Their attributes by name, bool [N].
    """

    rows: np.ndarray
    names: list[str]
    splits: np.ndarray
    expression: np.ndarray | None
    tags: dict[str, np.ndarray]


class FileSource(Source):
    """Labelled image files; a subclass's constructor defines them with `_set_files`.

    An image that cannot be read is logged once and replaced by the next matching file. If more than
    1 % of all files (and more than one) are missing or unreadable, the pipeline stops: see
    `user_errors`.

    Attributes:
        failure: The error that stopped a pipeline of this source; None if there was none.
        unused: Number of files of the data set that are not used, by reason. Subclasses count them
            before they call `_set_files`, which logs them.
    """

    _from_files: tuple[str, ...] = ("image",)
    """Fields that `_read_fields` can read: "image", or "image" and "label_map"."""

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        self.unused: Counter[str] = Counter()

    def _set_files(
        self,
        root: Path,
        names: Sequence[str],
        splits: np.ndarray,
        labels: dict[str, np.ndarray],
        tags: dict[str, np.ndarray],
        present: np.ndarray | None = None,
    ) -> None:
        """Defines the images of the data set.

        Args:
            root: The folder that the names are relative to.
            names: File names of the images, in a fixed order.
            splits: Split of each image, int [N], indices into SPLITS.
            labels: Fields of the batches besides `image`: int32 [N,...].
            tags: Attribute values, bool [N] by name, for `where` and `histogram`.
            present: Whether each file exists, bool [N]; None: all do.

        Raises:
            UserError: A requested field does not exist, or too many files are missing.
        """
        if self.unused:
            logger.warning("%s: not used: %s", root, self._unused_counts())
        known = [*self._from_files, *labels]
        for field in self.fields:
            if field not in known:
                raise UserError(
                    f"data.name is {self.data.name!r}, which has no field {field!r}; "
                    f"it has {', '.join(known)}"
                )
        self.failure: UserError | None = None
        self._root, self._names, self._splits = root, names, splits
        self._labels, self._tags = labels, tags
        self._present = np.ones(len(names), bool) if present is None else present
        # Rows with the fields that could not be read; other fields of the same row may be good.
        self._bad: set[tuple[int, tuple[str, ...]]] = set()
        self._lock = threading.Lock()
        missing = np.flatnonzero(~self._present)
        if self.data.allow_missing:
            if len(missing):
                logger.warning(
                    "%s: %d of the %d images listed are missing and not used",
                    root, len(missing), len(names),
                )  # fmt: skip
            if len(missing) == len(names):
                raise UserError(f"{root}: all {len(names)} images listed are missing")
            return
        if len(missing) > self._bad_limit():
            raise UserError(
                f"{root}: {len(missing)} of the {len(names)} images listed are missing: "
                f"{shortened([names[row] for row in missing])}; to use the others, set "
                "data.allow_missing to true"
            )
        for row in missing:
            self._note_bad(int(row), (), f"{root / names[row]}: no such file")

    def _unused_counts(self, noun: str = "") -> str:
        return ", ".join(f"{count} {noun}{reason}" for reason, count in self.unused.items())

    def count(self, split: str) -> int:
        """Number of images in a split."""
        return len(self._rows(split))

    def histogram(self, split: str) -> dict[str, int]:
        """Number of images in a split with each attribute, or of each class."""
        rows = self._rows(split)
        if self.classes:
            counts = np.bincount(self._labels["expression"][rows], minlength=len(self.classes))
            return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}
        return {name: int(column[rows].sum()) for name, column in self._tags.items()}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The fields to read from files: "image", and "label_map" if requested."""
        return tuple(k for k in self._from_files if k == "image" or k in self.fields)

    def listing(self) -> Listing:
        """All images that exist, in order."""
        rows = np.flatnonzero(self._present)
        return Listing(
            rows,
            [self._names[row] for row in rows],
            self._splits[rows],
            self._labels["expression"][rows] if self.classes else None,
            {name: column[rows] for name, column in self._tags.items()},
        )

    def load(self, row: int) -> tuple[Path, dict] | None:
        """An image's file, and its fields as `_read_fields` returns them; None if it is bad."""
        try:
            return self._root / self._names[row], self._read_fields(row, self.kinds)
        except UserError as error:
            self._note_bad(row, self.kinds, str(error))
            return None

    def select(self, split: str, *where: tuple[str, bool]) -> list[Path]:
        """Files of the images in a split that match all (attribute, value) pairs, in order."""
        return [self._root / self._names[row] for row in self._rows(split, *where)]

    def readable(self, split: str) -> dict[str, bool]:
        """Names of the images in a split, in order; False for those already found to be bad."""
        with self._lock:
            bad = {row for row, _ in self._bad}
        return {self._names[row]: row not in bad for row in self._rows(split).tolist()}

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        where: tuple[str, bool] | None = None,
    ) -> tf.data.Dataset:
        """Batches of one split, as `Source` describes; iterate over them under `user_errors`."""
        rows = self._rows(split, *([where] if where else []))
        if not len(rows):
            which = f" {'with' if where[1] else 'without'} {where[0]}" if where else ""
            raise UserError(f"{self._root}: no images{which} in the split {split!r}")
        if seed is not None and self.data.balance and self.classes:
            rows = _balanced(rows, self._labels["expression"][rows])
        kinds = self.kinds
        specs = {kind: self._spec(kind) for kind in kinds}
        specs |= {name: (tf.int32, v.shape[1:]) for name, v in self._labels.items()}

        def read(positions, chances):
            return self._read_batch(rows, kinds, positions, chances, self._needed(seed, positions))

        stream = _stream(split, where)
        return pipeline(read, specs, len(rows), batch_size, seed, stream, start)

    def exemplars(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        paired: float = 1.0,
    ) -> tf.data.Dataset:
        """Batches as `Source` describes; iterate over them under `user_errors`.

        With a seed, a paired exemplar is the image itself, randomly mirrored, enlarged and cropped,
        together with its label map. An unpaired exemplar is another image of the split, randomly
        mirrored if `data.flip`. If `exemplars.txt` in the data set's folder lists similar images,
        it is the first of them with probability 5/7, else the last. Each line of that file has the
        name of an image and those of similar images, the most similar first, separated by commas;
        images of other splits are ignored.

        Without a seed, one pass in order: the exemplar is the mirrored image if `paired` is 1,
        otherwise the first listed one or the next image.
        """
        if "label_map" not in self._from_files:
            return super().exemplars(split, batch_size)
        rows = self._rows(split)
        if not len(rows):
            raise UserError(f"{self._root}: no images in the split {split!r}")
        listed = self._lists(rows)
        image, labels = self._spec("image"), self._spec("label_map")
        specs = {"image": image, "label_map": labels}
        specs |= {"exemplar": image, "exemplar_label_map": labels, "paired": (tf.float32, ())}

        def read(positions, chances):
            needed = self._needed(seed, positions)
            at_random = seed is not None
            return self._read_pairs(rows, listed, paired, at_random, positions, chances, needed)

        stream = _stream(split, "exemplars")
        return pipeline(read, specs, len(rows), batch_size, seed, stream, start, chances=6)

    def _lists(self, rows: np.ndarray) -> dict[int, tuple[int, int]]:
        path = Path(self.data.path) / EXEMPLARS
        return parse_lists(path.read_text() if path.exists() else "", path, self._names, rows)

    def _spec(self, kind: str) -> tuple[tf.DType, tuple[int, ...]]:
        size = self.data.size
        return (tf.float32, (size, size, 3)) if kind == "image" else (tf.int32, (size, size))

    def _rows(self, split: str, *where: tuple[str, bool]) -> np.ndarray:
        if split not in SPLITS:
            raise UserError(f"split is {split!r}: expected one of {', '.join(SPLITS)}")
        chosen = self._present & (self._splits == SPLITS.index(split))
        for name, value in where:
            check_names("attribute", [name], tuple(self._tags), self._root)
            chosen &= self._tags[name] == value
        return np.flatnonzero(chosen)

    def _zeros(self, kinds: tuple[str, ...], number: int) -> list[np.ndarray]:
        specs = map(self._spec, kinds)
        return [np.zeros((number, *shape), dtype.as_numpy_dtype) for dtype, shape in specs]

    def _read_fields(self, row: int, kinds: tuple[str, ...]) -> dict:
        """Reads the files of an image, at their original size.

        Args:
            row: Index of the image.
            kinds: Fields to read; a subclass reads the further ones in its `_from_files`.

        Returns:
            `image`: an RGB image; `label_map`: class ids, uint8 [H,W].

        Raises:
            UserError: A file is bad or missing; the caller uses the next image instead.
        """
        return {"image": images.load_image(self._root / self._names[row])}

    def _needed(self, seed: int | None, positions: np.ndarray) -> range:
        """The places in a batch whose images are read: those of `share` in training."""
        number, count = (0, 1) if seed is None else self.share
        size = len(positions) // count
        return range(number * size, (number + 1) * size)

    def _read_batch(
        self, rows, kinds, positions: np.ndarray, chances: np.ndarray, needed: range
    ) -> list:
        batch = self._zeros(kinds, len(positions))
        used = rows[positions]
        for i in needed:
            if Exit.is_near():
                break
            stored, used[i] = self._read(rows, int(positions[i]), kinds)
            flip = chances[i, 0] < 0.5 and self.data.flip
            for values, value in zip(batch, _arrays(stored, self.data.size, flip), strict=True):
                values[i] = value
        return [*batch, *(column[used] for column in self._labels.values())]

    def _read_pairs(self, rows, listed, paired, at_random, positions, chances, needed) -> list:
        """Images and exemplars; chances float32 [B,6], all 1 if not at random."""
        size, number, both = self.data.size, len(rows), ("image", "label_map")
        batch = self._zeros((*both, *both), len(positions))
        pairs = np.float32((chances[:, 2] < paired) | (paired >= 1))
        room = round(size * ENLARGED) - size if at_random else 0
        for i in needed:
            if Exit.is_near():
                break
            chance = chances[i]
            stored, row = self._read(rows, int(positions[i]), both)
            flip, mirror = chance[0] < 0.5 and self.data.flip, chance[1] >= 0.5
            if pairs[i]:
                y, x = (min(int(c * (room + 1)), room) for c in chance[4:])
                exemplar = _arrays(stored, size + room, flip != mirror)
                exemplar = [values[y : y + size, x : x + size] for values in exemplar]
            else:
                if row in listed:
                    other = np.searchsorted(rows, listed[row][int(chance[3] < 1 - EASY)])
                else:
                    step = number - 1 - min(int(chance[3] * (number - 1)), number - 2)
                    other = (np.searchsorted(rows, row) + step) % number
                other, _ = self._read(rows, int(other), both)
                exemplar = _arrays(other, size, mirror and at_random and self.data.flip)
            target = _arrays(stored, size, flip)
            for values, value in zip(batch, [*target, *exemplar], strict=True):
                values[i] = value
        return [*batch, pairs]

    def _read(self, rows: np.ndarray, position: int, kinds: tuple[str, ...]) -> tuple[dict, int]:
        """The image at a position of `rows`, or the next readable one; and its row."""
        for step in range(len(rows)):
            row = int(rows[(position + step) % len(rows)])
            if (row, kinds) in self._bad:
                continue
            try:
                return self._read_fields(row, kinds), row
            except UserError as error:
                self._note_bad(row, kinds, str(error))
        raise self._stop("none of the requested images can be read")

    def _note_bad(self, row: int, kinds: tuple[str, ...], reason: str) -> None:
        with self._lock:
            if (row, kinds) in self._bad:
                return
            self._bad.add((row, kinds))
            number = len({row for row, _ in self._bad})
        logger.warning("skipped a bad image (%d so far): %s", number, reason)
        if number > self._bad_limit():
            raise self._stop(
                f"{number} of the {len(self._names)} images are missing or cannot be read, "
                f"more than {BAD_SHARE:.0%}"
            )

    def _bad_limit(self) -> int:
        return max(1, int(BAD_SHARE * len(self._names)))

    def _stop(self, reason: str) -> UserError:
        with self._lock:
            bad = [self._names[row] for row in sorted({row for row, _ in self._bad})]
        self.failure = UserError(f"{self._root}: {reason}: {shortened(bad)}")
        return self.failure


def _arrays(stored: dict, size: int, flip: bool) -> list[np.ndarray]:
    """Converts the result of `_read_fields` to arrays of a size, optionally mirrored."""
    image = images.to_array(stored["image"], size)
    arrays = [image[:, ::-1] if flip else image]
    if "label_map" in stored:
        labels = to_labels(stored["label_map"], size)
        arrays.append(FLIPPED[labels[:, ::-1]] if flip else labels)
    return arrays


def _stream(split: str, which: object) -> int:
    """Distinguishes pipelines with the same seed.

    Streams of equal length (with and without an attribute) need different shuffles, or the same two
    images would be paired in every epoch.
    """
    return zlib.crc32(repr((split, which)).encode())


def _balanced(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows with those of smaller classes repeated, so that all classes occur equally often."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.concatenate([np.resize(rows[labels == c], counts.max()) for c in classes])


@contextlib.contextmanager
def user_errors(*sources: Source | None) -> Iterator[None]:
    """Context manager for iterating over batches; re-raises a reader's UserError.

    TensorFlow converts every exception inside a pipeline to one of its own types.

    Args:
        *sources: Any sources; sources that read no files, and None, have no effect.

    Raises:
        UserError: A source stopped; the message names the bad files.
    """
    try:
        yield
    except tf.errors.OpError:
        failures = [getattr(source, "failure", None) for source in sources]
        failure = next((f for f in failures if f), None)
        if failure is None:
            raise
        raise failure from None


def parse_lists(
    text: str, path: str | Path, names: Sequence[str], rows: np.ndarray
) -> dict[int, tuple[int, int]]:
    """Parses a list of similar images, see `FileSource.exemplars`.

    Args:
        text: The list; empty if there is none.
        path: Its file, for messages.
        names: All images of the data set.
        rows: Rows of the images in the split.

    Returns:
        For each listed row, the rows of the most and the least similar image.

    Raises:
        UserError: A line has no similar images, or one that is not in the data set.
    """
    row_of = {name: row for row, name in enumerate(names)}
    members, result = set(rows.tolist()), {}
    for number, line in enumerate(text.splitlines(), 1):
        words = [word.strip() for word in line.split(",")]
        unknown = [word for word in words if word not in row_of]
        if unknown or len(words) < 2:
            raise UserError(
                f"{path}, line {number}: expected the names of an image and of similar ones, such "
                f"as {names[0]},{names[-1]}" + (f"; no image {unknown[0]!r}" if unknown else "")
            )
        row, *others = (row_of[word] for word in words)
        others = [other for other in others if other in members and other != row]
        if others:
            result[row] = others[0], others[-1]
    return result


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Names for a message, at most `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_names(kind: str, wanted: Sequence[str], known: Sequence[str], where: Path) -> None:
    """Raises a UserError that lists the known names if a wanted name is not among them."""
    for name in wanted:
        if name not in known:
            listed = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"{where}: has no {kind} {name!r}{nearest(name, known)} ({listed})")


def split_by_name(names: Sequence[str], held_out: Sequence[str] = ("val", "test")) -> np.ndarray:
    """Splits images by a hash of their names, so that added images do not move existing ones.

    Args:
        names: The images of one group (such as a class): 5 % go to each held-out split, at least
            one if there are ten or more; at least one stays in "train".
        held_out: Splits besides "train".

    Returns:
        The split of each image, int8 [N], indices into SPLITS.
    """
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    shares = np.frombuffer(b"".join(digests), ">u8") / 2.0**64
    splits = np.zeros(len(names), np.int8)
    indices = [SPLITS.index(split) for split in held_out]
    for i, index in enumerate(indices):
        splits[(shares >= i * HELD_OUT_SHARE) & (shares < (i + 1) * HELD_OUT_SHARE)] = index
    for index in indices:
        if len(names) >= _STRATIFIED_FROM and not (splits == index).any():
            splits[np.argmin(np.where(splits == 0, shares, 2.0))] = index
    if len(splits) and splits.all():
        splits[:] = 0
    return splits
