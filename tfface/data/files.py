"""What the readers of picture files share: order, decoding, and what becomes of bad pictures."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfface.config import nearest
from tfface.data import pictures
from tfface.data.base import SPLITS, Source
from tfface.errors import UserError

BAD_SHARE = 0.01
HELD_OUT_SHARE = 0.05
_STRATIFIED_FROM = 10

logger = logging.getLogger("tfface")


class _Exit:
    """Lets the process end while a pipeline still reads ahead.

    A pipeline's thread that enters Python during its shutdown never returns, and TensorFlow would
    wait for it for ever. So before the shutdown, reads become empty, and end as soon as the
    pipeline's buffers are full.
    """

    begun = False
    last_read = 0.0
    quiet_s, most_s = 0.2, 10.0

    @classmethod
    def wait(cls) -> None:
        cls.begun = True
        deadline = time.monotonic() + cls.most_s
        while time.monotonic() < min(cls.last_read + cls.quiet_s, deadline):
            time.sleep(0.01)


atexit.register(_Exit.wait)


class FileSource(Source):
    """Labelled picture files; a subclass's constructor says which with `_set_files`.

    A picture that cannot be read is named once on the log and replaced by the next file that
    answers the same description. When more than 1 % of all files (but at least one may be bad) are
    missing or unreadable, the pipeline stops: see `user_errors`.

    Attributes:
        failure: The error that stopped a pipeline of this source, if one did.
    """

    def _set_files(
        self,
        root: Path,
        names: Sequence[str],
        splits: np.ndarray,
        labels: dict[str, np.ndarray],
        tags: dict[str, np.ndarray],
        present: np.ndarray | None = None,
    ) -> None:
        """Says which pictures there are.

        Args:
            root: The folder that names are relative to.
            names: The pictures, in a fixed order.
            splits: int [N], index in SPLITS.
            labels: Fields of the batches besides `image`: int32 [N,...].
            tags: bool [N] by attribute name, for `where` and `histogram`.
            present: bool [N]: which of the files exist; all if not given.

        Raises:
            UserError: A field that is not among the labels, or too many missing files.
        """
        for field in self.fields:
            if field != "image" and field not in labels:
                raise UserError(
                    f"data.name is {self.data.name!r}, which has no field {field!r}; "
                    f"it has {', '.join(['image', *labels])}"
                )
        self.failure: UserError | None = None
        self._root, self._names, self._splits = root, names, splits
        self._labels, self._tags = labels, tags
        self._present = np.ones(len(names), bool) if present is None else present
        self._bad: dict[int, str] = {}
        self._lock = threading.Lock()
        missing = np.flatnonzero(~self._present)
        if len(missing) > self._bad_limit():
            raise UserError(
                f"{root}: {len(missing)} of the {len(names)} pictures listed are missing: "
                f"{shortened([names[row] for row in missing])}"
            )
        for row in missing:
            self._note_bad(int(row), f"{root / names[row]}: no such file")

    def count(self, split: str) -> int:
        """Number of pictures in a split."""
        return len(self._rows(split))

    def histogram(self, split: str) -> dict[str, int]:
        """Number of pictures of a split with each attribute, or of each class."""
        rows = self._rows(split)
        if self.classes:
            found = np.bincount(self._labels["expression"][rows], minlength=len(self.classes))
            return {name: int(number) for name, number in zip(self.classes, found, strict=True)}
        return {name: int(column[rows].sum()) for name, column in self._tags.items()}

    def select(self, split: str, *where: tuple[str, bool]) -> list[Path]:
        """Files of the pictures of a split that have or lack all these attributes, in order."""
        return [self._root / self._names[row] for row in self._rows(split, *where)]

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
        number = len(rows)
        if not number:
            which = f" {'with' if where[1] else 'without'} {where[0]}" if where else ""
            raise UserError(f"{self._root}: no pictures{which} in the split {split!r}")
        # Streams of equal length (those with and those without an attribute) must not be shuffled
        # alike, or the same two pictures would meet in every epoch.
        stream = zlib.crc32(repr((split, where)).encode())

        def in_order(batch):
            positions = tf.range(
                batch * batch_size, tf.minimum((batch + 1) * batch_size, number), dtype=tf.int64
            )
            return positions, tf.zeros_like(positions, tf.bool)

        def shuffled(batch):
            examples = batch * batch_size + tf.range(batch_size, dtype=tf.int64)
            epochs = examples // number
            # The raw op: tf.random.experimental.index_shuffle refuses one seed per index.
            positions = tf.raw_ops.RandomIndexShuffle(
                index=examples % number,
                seed=tf.stack(
                    [tf.fill([batch_size], tf.constant(seed, tf.int64)), epochs]
                    + [tf.fill([batch_size], tf.constant(stream, tf.int64))],
                    axis=1,
                ),
                max_index=tf.constant(number - 1, tf.int64),
                rounds=4,
            )
            coins = tf.random.stateless_uniform([batch_size], [seed ^ stream, batch])
            return positions, (coins < 0.5) & self.data.flip

        fields = ["image", *self._labels]
        types = [tf.float32] + [tf.int32] * len(self._labels)
        shapes = [(self.data.size, self.data.size, 3)]
        shapes += [column.shape[1:] for column in self._labels.values()]
        length = None if seed is None else batch_size

        def load(batch):
            positions, flips = in_order(batch) if seed is None else shuffled(batch)
            values = tf.numpy_function(
                lambda *args: self._read_batch(rows, *args), [positions, flips], types
            )
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape((length, *shape))
            return dict(zip(fields, values, strict=True))

        end = -(-number // batch_size) if seed is None else np.iinfo(np.int64).max
        numbers = tf.data.Dataset.range(start, end)
        return numbers.map(load, tf.data.AUTOTUNE, deterministic=True).prefetch(2)

    def _rows(self, split: str, *where: tuple[str, bool]) -> np.ndarray:
        if split not in SPLITS:
            raise UserError(f"split is {split!r}: expected one of {', '.join(SPLITS)}")
        chosen = self._present & (self._splits == SPLITS.index(split))
        for name, value in where:
            check_names("attribute", [name], tuple(self._tags), self._root)
            chosen &= self._tags[name] == value
        return np.flatnonzero(chosen)

    def _read_batch(self, rows: np.ndarray, positions: np.ndarray, flips: np.ndarray) -> list:
        side = self.data.size
        images = np.empty((len(positions), side, side, 3), np.float32)
        used = np.empty(len(positions), np.int64)
        for i, (position, flip) in enumerate(zip(positions, flips, strict=True)):
            _Exit.last_read = time.monotonic()
            if _Exit.begun:
                used[:] = rows[positions]
                images[:] = 0
                break
            image, used[i] = self._read(rows, int(position))
            images[i] = image[:, ::-1] if flip else image
        return [images, *(column[used] for column in self._labels.values())]

    def _read(self, rows: np.ndarray, position: int) -> tuple[np.ndarray, int]:
        """The picture at a position of `rows`, or the next readable one; and its row."""
        for step in range(len(rows)):
            row = int(rows[(position + step) % len(rows)])
            if row in self._bad:
                continue
            try:
                picture = pictures.load_picture(self._root / self._names[row])
                return pictures.to_array(picture, self.data.size), row
            except UserError as error:
                self._note_bad(row, str(error))
        raise self._stop("none of the pictures asked for can be read")

    def _note_bad(self, row: int, reason: str) -> None:
        with self._lock:
            if row in self._bad:
                return
            self._bad[row] = reason
            number = len(self._bad)
        logger.warning("skipped a bad picture (%d so far): %s", number, reason)
        if number > self._bad_limit():
            raise self._stop(
                f"{number} of the {len(self._names)} pictures are missing or cannot be read, "
                f"more than {BAD_SHARE:.0%}"
            )

    def _bad_limit(self) -> int:
        return max(1, int(BAD_SHARE * len(self._names)))

    def _stop(self, reason: str) -> UserError:
        with self._lock:
            bad = [self._names[row] for row in sorted(self._bad)]
        self.failure = UserError(f"{self._root}: {reason}: {shortened(bad)}")
        return self.failure


@contextlib.contextmanager
def user_errors(source: Source) -> Iterator[None]:
    """Gives the UserError of a reader its own type back; to be put around the use of its batches.

    TensorFlow turns every exception inside a pipeline into one of its own.

    Args:
        source: Any source; those that read no files pass everything through.

    Raises:
        UserError: The source gave up; names the files at fault.
    """
    try:
        yield
    except tf.errors.OpError:
        failure = getattr(source, "failure", None)
        if failure is None:
            raise
        raise failure from None


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Names for a message, not more than a screen can take."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_names(kind: str, wanted: Sequence[str], known: Sequence[str], where: Path) -> None:
    """Raises a UserError that lists the names there are if one wanted is not among them."""
    for name in wanted:
        if name not in known:
            listed = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"{where}: has no {kind} {name!r}{nearest(name, known)} ({listed})")


def split_by_name(names: Sequence[str], held_out: Sequence[str] = ("val", "test")) -> np.ndarray:
    """Splits pictures by a hash of their names, so that a picture stays where it is as others come.

    Args:
        names: The pictures of one group (a class): 5 % go to each split held out, at least one of
            ten or more; at least one stays in train.
        held_out: Splits wanted besides "train".

    Returns:
        int8 [N], index in SPLITS.
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
