"""SARGAN trained on few photographs: `python benchmarks/few_images.py --path EXPRESSIONS`.

Trains the preset `celeba64` on parts of a folder of expressions (`prepare folders`), each contained
in the next, for equal steps, and lets the face networks of `prepare judges` judge the edits of all
its test images. With `--write` the table goes into `docs/your-images.md`. Runs are kept: the same
command continues, and a second call trains nothing.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from common import Cells, block, markdown, replace_block

from tfface.cli import Parser, aligned, command, import_tensorflow
from tfface.data.base import SPLITS
from tfface.data.images import list_images
from tfface.errors import UserError

ROOT = Path(__file__).parents[1]
MARK = "<!-- few-images -->"
TITLES = {
    "all": "all edits",
    "seen": "what was asked is seen",
    "identity": "the person is the same",
}


def part(path: Path, count: int, out: Path) -> Path:
    """A folder of expressions with `count` training images, and all others, as links.

    Classes keep their shares; of each, the images with the lowest hash of their names are taken.

    Raises:
        UserError: Fewer training images, no folder of one of the splits, or a part of other images.
    """
    classes = {split: _classes(path / split) for split in SPLITS}
    total = sum(map(len, classes["train"].values()))
    if count > total:
        raise UserError(f"{path} has {total} training images: expected {count} or more")
    for split, images in classes.items():
        for name, files in images.items():
            files = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
            kept = round(count * len(files) / total) if split == "train" else len(files)
            _link(files[:kept], out / split / name)
    return out


def _classes(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected the output of `tfface.prepare folders`")
    return {sub.name: list_images(sub) for sub in sorted(folder.iterdir()) if sub.is_dir()}


def _link(files: list[Path], folder: Path) -> None:
    """Makes links to the files in the folder, which must not contain others."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if not (folder / file.name).is_symlink():
            (folder / file.name).symlink_to(file.resolve())
    links = {link.resolve() for link in folder.iterdir()}
    if links != {file.resolve() for file in files}:
        raise UserError(f"{folder} has links to other images: use another --out")


def measure(path: Path, judges: Path, count: int, out: Path) -> dict[str, Any]:
    """Trains on `count` images, and judges the edits of the test images (`PhotoEdits.result`)."""
    from tfface.evaluation import evaluation_of
    from tfface.evaluation.pictures import evaluate_pictures
    from tfface.train import train_run

    options = {"data.path": str(part(path, count, out / f"{count}-images"))}
    trained = train_run("sargan", preset="celeba64", run=out / str(count), options=options)
    test = out / "test"
    _link([file for files in _classes(path / "test").values() for file in files], test)
    return evaluate_pictures(evaluation_of(trained), test, judges=judges)


def table(results: dict[int, dict[str, Any]]) -> Cells:
    """A row for each number of training images."""
    first = next(iter(results.values()))["photographs"]
    classes = [name for name in first if name != "mean"]
    cells = [["training images", *classes, *TITLES.values()]]
    for count, result in results.items():
        found = result["photographs"]
        low, high = result["intervals"]["photographs"]["mean"]["all"]
        row = [f"{100 * found[name]['all']:.0f} %" for name in classes]
        row.append(f"{100 * found['mean']['all']:.0f} ({100 * low:.0f} to {100 * high:.0f}) %")
        row += [f"{100 * found['mean'][key]:.0f} %" for key in ("seen", "identity")]
        cells.append([f"{count:,}", *row])
    return cells


@command
def main(argv: list[str] | None = None) -> int:
    """Trains, judges and prints the table; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--path", required=True, help="folder of expressions, with splits")
    parser.add_argument("--judges", default="judges", help="of `prepare judges` (%(default)s)")
    parser.add_argument("--counts", nargs="+", type=int, default=[500, 1000, 2000])
    parser.add_argument("--out", default="runs/few-images", help="folder of the runs (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    arguments = parser.parse_args(argv)
    if min(arguments.counts) < 1:
        raise UserError(f"--counts is {min(arguments.counts)}: expected 1 or more")
    page, out = ROOT / "docs" / "your-images.md", Path(arguments.out)
    if arguments.write:
        block(page, MARK)  # Raises before the work begins.
    path, judges = Path(arguments.path), Path(arguments.judges)
    if not judges.is_dir():
        raise UserError(f"no folder {judges}: write it with `python -m tfface.prepare judges`")
    import_tensorflow()
    results = {count: measure(path, judges, count, out) for count in sorted(arguments.counts)}
    cells = table(results)
    print(aligned(cells))
    if arguments.write:
        replace_block(page, MARK, markdown(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
