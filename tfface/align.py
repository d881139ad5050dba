"""`python -m tfface.align PHOTOS OUT`: cuts aligned faces out of photographs, for training."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tfface.cli import Parser, command
from tfface.config import Crop
from tfface.errors import UserError

if TYPE_CHECKING:
    from tfface.data.alignment import Face

SETTINGS = "alignment.json"
UNUSED = "unused.csv"
_AT_ONCE = 32  # Photographs submitted at once: an interruption waits for these.
_NAMED = 5  # Files named for each reason on the terminal.


def _size(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 32 to 1024")
    return int(text)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "align",
        description="Cut the largest face out of each photograph in a folder, aligned to the crop "
        "of a known data set, as PNG files. The subfolders stay as they are, so the result of "
        "class folders is class folders. A repeated command continues where it was stopped. Files "
        f"that are not used are listed with the reason in OUT/{UNUSED}.",
        epilog="example: %(prog)s photographs faces --crop celeba_hq --size 128; "
        "python -m tfface.train sargan --data.name folder --data.path faces --data.size 128 "
        "--data.crop celeba_hq",
    )
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photographs")
    parser.add_argument("out", metavar="OUT", help="folder of the aligned faces")
    parser.add_argument(
        "--crop",
        choices=get_args(Crop),
        default="celeba_hq",
        help="crop convention (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=256,
        metavar="N",
        help="side of the faces in pixels; faces with less than half as many in the photograph are "
        "too small (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    args.photos, args.out = Path(args.photos), Path(args.out)
    if not args.photos.is_dir():
        raise UserError(f"{args.photos}: no such folder")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"{args.out} is not a folder")
    if args.photos.resolve() == args.out.resolve():
        raise UserError(f"{args.out}: expected another folder than that of the photographs")
    return args


@command
def main(argv: list[str] | None = None) -> int:
    """Aligns; returns the exit status."""
    args = _parse(argv)
    align_folder(args.photos, args.out, args.crop, args.size)
    return 0


def align_folder(photos: Path, out: Path, crop: str = "celeba_hq", size: int = 256) -> None:
    """Cuts the largest face out of each photograph in a folder and its subfolders.

    Each photograph gives a PNG file in the same subfolder of `out`, written atomically; those that
    exist are not written again. `out` also gets the settings and the list of unused files.

    Args:
        photos: Folder of the photographs.
        out: Folder to write to.
        crop: Name of the crop, from `tfface.data.alignment.CROPS`.
        size: Side of the faces in pixels.

    Raises:
        UserError: `out` has faces of other settings, two photographs have the same name, no face
            was found in any of them, or mtcnn is not installed.
    """
    from tfface.data.alignment import check_crop
    from tfface.progress import progress

    _keep_settings(out, {"crop": check_crop(crop), "size": size})
    images, unused = _list(photos, out)
    targets = _targets(images, out)
    missing = [name for name in images if not targets[name].exists()]
    several = []

    def work(name: str) -> tuple[str, str, list[Face]]:
        return name, *_cut(photos / name, targets[name], crop, size)

    with ThreadPoolExecutor(os.cpu_count()) as threads, progress() as bar:
        task = bar.add_task("aligning", total=len(missing))
        for start in range(0, len(missing), _AT_ONCE):
            for name, reason, faces in threads.map(work, missing[start : start + _AT_ONCE]):
                bar.advance(task)
                if reason:
                    unused[name] = reason
                elif len(faces) > 1:
                    several.append(name)
    _write_unused(out, unused)
    _report(out, images, missing, unused, several)
    if not any(path.exists() for path in targets.values()):
        raise UserError(f"{photos}: no face could be used; see {out / UNUSED}")


def _keep_settings(out: Path, settings: dict[str, str | int]) -> None:
    """Writes the settings to a new folder; raises a UserError if it has others."""
    path = out / SETTINGS
    if path.exists():
        found = json.loads(path.read_text())
        if found != settings:
            raise UserError(
                f"{out} has faces of --crop {found['crop']} --size {found['size']}; expected the "
                f"same options, or another folder"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} has files that are not from tfface.align: expected a new folder")
    _write(path, json.dumps(settings))


def _list(photos: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    """The image files below a folder, and the reasons why the other files are not used."""
    from tfface.data.images import is_image_name

    images, unused = [], {}
    for folder, subfolders, files in os.walk(photos):
        subfolders[:] = sorted(
            s for s in subfolders if (Path(folder) / s).resolve() != out.resolve()
        )
        for file in sorted(files):
            name = os.path.relpath(os.path.join(folder, file), photos)
            if is_image_name(file):
                images.append(name)
            elif file.startswith("."):
                unused[name] = "hidden"
            else:
                unused[name] = f"with {Path(file).suffix.lower() or 'no suffix'}"
    if not images:
        raise UserError(f"{photos}: has no images, in subfolders neither")
    return images, unused


def _targets(images: list[str], out: Path) -> dict[str, Path]:
    """File of the face of each photograph, with the suffix in its name if others differ in it."""
    count = Counter(os.path.splitext(name)[0].lower() for name in images)
    targets = {}
    for name in images:
        stem, suffix = os.path.splitext(name)
        alone = count[stem.lower()] == 1
        targets[name] = out / f"{stem if alone else stem + suffix.replace('.', '_')}.png"
    return targets


def _cut(photo: Path, target: Path, crop: str, size: int) -> tuple[str, list[Face]]:
    """Aligns a photograph; returns the reason why it is not used, if any, and its faces."""
    from tfface.data.alignment import NoFace, SmallFace, align
    from tfface.data.images import load_image, save_image

    try:
        image = load_image(photo)
    except UserError as error:
        return f"unreadable: {str(error).removeprefix(f'{photo}: ')}", []
    try:
        face = align(image, crop, side=size, least=size // 2)
    except NoFace:
        return "no face", []
    except SmallFace as error:
        return f"too small: {str(error).rpartition(': ')[2]}", []
    save_image(face.crop, target)
    return "", face.faces


def _write_unused(out: Path, unused: dict[str, str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("file", "reason"), *sorted(unused.items())])
    _write(out / UNUSED, text.getvalue())


def _write(path: Path, text: str) -> None:
    from tfface.engine.run import write_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _report(
    out: Path, images: list[str], missing: list[str], unused: dict[str, str], several: list[str]
) -> None:
    """Prints what was written, and counts and names what was not used."""
    reasons = defaultdict(list)
    for name, reason in unused.items():
        reasons[reason.partition(":")[0]].append(name)
    written = sum(name not in unused for name in missing)
    before = len(images) - len(missing)
    print(f"wrote {written} face(s) to {out}" + (f", {before} were there before" if before else ""))
    if several:
        count, names = len(several), _shortened(several)
        print(f"{count} photograph(s) with several faces, of which the largest is used: {names}")
    for reason, names in sorted(reasons.items()):
        print(f"not used: {len(names)} {reason}: {_shortened(sorted(names))}")
    if unused:
        print(f"all unused files with their reasons: {out / UNUSED}")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


if __name__ == "__main__":
    sys.exit(main())
