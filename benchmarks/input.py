"""Images a second from files and from shards: `python benchmarks/input.py`.

Draws built-in faces as JPEG files of 256 px, writes them as shards, and reads batches of 16 at
several sizes: from the files, from shards of the files, and from shards that were resized. Beside
them the rate at which TensorFlow decodes the same JPEG files from memory, without resizing. All in
turns in one process. `--write` also writes the table into `docs/your-images.md`.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import Cells, table_command

from tfface.cli import command
from tfface.config import Data

PAGE = Path(__file__).parents[1] / "docs" / "your-images.md"
MARK = "<!-- input -->"
SIDE, DRAWN, COPIES, BATCH = 256, 32, 16, 16
SIZES = (64, 128, 256)
HEADER = ["size", "files", "shards", "resized shards", "JPEG decoding alone",
          "shards / decoding"]  # fmt: skip


def draw(folder: Path) -> list[bytes]:
    """Writes JPEG files in two class folders; returns the contents."""
    from tfface.data import open_source
    from tfface.data.images import to_image

    contents = []
    faces = next(iter(open_source(Data(size=SIDE)).batches("train", DRAWN)))["image"].numpy()
    for i, face in enumerate(faces):
        file = io.BytesIO()
        to_image(face).save(file, "JPEG", quality=95)
        contents.append(file.getvalue())
        for copy in range(COPIES):
            path = folder / ("left", "right")[i % 2] / f"{i:03}-{copy:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.getvalue())
    return contents


def decoding(contents: list[bytes]):
    """A data set that decodes images from memory, and does nothing else."""
    import tensorflow as tf

    images = tf.constant(contents)
    numbers = tf.data.Dataset.range(2**40)

    def decode(number):
        return tf.io.decode_jpeg(images[number % len(contents)], dct_method="INTEGER_ACCURATE")

    return numbers.map(decode, tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def rates(iterators: list[Iterator], seconds: float) -> list[float]:
    """Images a second of each iterator, in turns; the fastest turn of each counts."""
    best = [0.0] * len(iterators)
    for _ in range(3):
        for i, batches in enumerate(iterators):
            for _ in range(4):  # Fills the buffers, and those of the one before run empty.
                next(batches)
            begin, count = time.perf_counter(), 0
            while time.perf_counter() < begin + seconds:
                next(batches)
                count += BATCH
            best[i] = max(best[i], count / (time.perf_counter() - begin))
    return best


def measure(seconds: float) -> tuple[Cells, str]:
    """The table, and its unit."""
    from tfface.data import open_source
    from tfface.data.shards import write_shards

    table: Cells = [HEADER]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        contents = draw(root / "files")
        files = open_source(Data("folder", str(root / "files")))
        write_shards(files, str(root / "shards"))
        for size in SIZES:
            write_shards(files, str(root / f"resized{size}"), size=size)
            folders = ("files", "shards", f"resized{size}")
            sources = [open_source(Data("folder", str(root / f), size=size)) for f in folders]
            data = [source.batches("train", BATCH, seed=1) for source in sources]
            found = rates([iter(d) for d in (*data, decoding(contents))], seconds)
            row = [f"{size} px", *(f"{rate:.0f}" for rate in found), f"{found[1] / found[3]:.2f}"]
            table.append(row)
    facts = f"Images a second; JPEG files of {SIDE} px, {len(contents[0]) >> 10} KiB each"
    return table, facts


@command
def main(argv: list[str] | None = None) -> int:
    """Measures and prints the table; returns the exit status."""
    about = __doc__.split("\n")[0]
    return table_command(argv, about, PAGE, MARK, (2.0, "length of a turn"), measure)


if __name__ == "__main__":
    sys.exit(main())
