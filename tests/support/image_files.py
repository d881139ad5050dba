"""Small data sets on disk, in the layouts that the readers support."""

from pathlib import Path

import numpy as np
from PIL import Image

from tfface.config import Data
from tfface.data import open_source

NAMES = ("Bangs", "Eyeglasses", "Smiling")


def write_image(path: Path, number: int, side: int = 32) -> None:
    """Writes a plain image with its number in the red channel and a bright left half."""
    values = np.zeros((side, side, 3), np.uint8)
    values[..., 0] = number
    values[:, : side // 2, 1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


def numbers(batch) -> list[int]:
    red = batch["image"].numpy()[:, 0, 0, 0]
    return np.rint((red + 1) * 127.5).astype(int).tolist()


def flipped(batch) -> np.ndarray:
    return batch["image"].numpy()[:, 16, 0, 1] < 0


def attributes_of(number: int) -> list[int]:
    return [number % 2, int(number % 3 == 0), int(number > 10)]


def make_celeba(root: Path, count: int = 40, layout: str = "flat", splits: bool = True) -> Path:
    """Creates images 000001.jpg...; attributes from `attributes_of`; 1 of 10 in val and in test."""
    parts = {"flat": ("", "", ""), "official": ("Img", "Anno", "Eval"), "kaggle": ("", "", "")}
    images, annotations, evaluation = (root / part for part in parts[layout])
    if layout == "kaggle":
        images = images / "img_align_celeba"
    rows = range(1, count + 1)
    for number in rows:
        write_image(images / "img_align_celeba" / f"{number:06}.jpg", number)
    for folder in (annotations, evaluation):
        folder.mkdir(parents=True, exist_ok=True)
    split_of = [{8: 1, 9: 2}.get(number % 10, 0) for number in rows]
    if layout == "kaggle":
        lines = [",".join(["image_id", *NAMES])]
        lines += [
            f"{n:06}.jpg," + ",".join("1" if bit else "-1" for bit in attributes_of(n))
            for n in rows
        ]
        (annotations / "list_attr_celeba.csv").write_text("\r\n".join(lines) + "\r\n")
        lines = ["image_id,partition"]
        lines += [f"{n:06}.jpg,{s}" for n, s in zip(rows, split_of, strict=True)]
        (evaluation / "list_eval_partition.csv").write_text("\n".join(lines))
        return root
    lines = [str(count), " ".join(NAMES) + " "]
    lines += [
        f"{n:06}.jpg " + " ".join(" 1" if bit else "-1" for bit in attributes_of(n)) for n in rows
    ]
    (annotations / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    if splits:
        lines = [f"{n:06}.jpg {s}" for n, s in zip(rows, split_of, strict=True)]
        (evaluation / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root


def make_folders(root: Path, sizes: dict[str, int]) -> Path:
    number = 0
    for name, size in sizes.items():
        for i in range(size):
            number += 1
            write_image(root / name / f"{i:03}.png", number)
    return root


def celeba(root, attributes=(), **options):
    return open_source(Data("celeba", str(root), size=32, **options), attributes)


def folder(root, classes=(), **options):
    return open_source(Data("folder", str(root), size=32, **options), (), classes)


def same(one, other) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[how]
    )


def masks_of(number: int) -> dict[str, tuple[slice, slice]]:
    """Rows and columns, of 64, of each mask; hair overlaps skin and an eye; half have no cloth."""
    masks = {
        "hair": (slice(0, 24), slice(0, 64)),
        "skin": (slice(16, 48), slice(8, 56)),
        "l_eye": (slice(20, 28), slice(40, 48)),
        "r_eye": (slice(28, 32), slice(16, 24)),
    }
    if number % 2:
        masks["cloth"] = (slice(44, 64), slice(0, 64))
    return masks


def part(root, number, name="skin", folder="CelebAMask-HQ-mask-anno"):
    return root / folder / str(number // 2000) / f"{number:05}_{name}.png"


def make(root, count=20, first=1, folder="CelebAMask-HQ-mask-anno"):
    """Creates images of 32 pixels (see `write_image`) with masks of 64 pixels."""
    for number in range(first, first + count):
        write_image(root / "CelebA-HQ-img" / f"{number}.jpg", number % 256)
        for name, area in masks_of(number).items():
            mask = np.zeros((64, 64, 3), np.uint8)
            mask[area] = 255
            path = part(root, number, name, folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    return root


def opened(root, fields=("label_map",), attributes=(), **options):
    return open_source(Data("celebamask_hq", str(root), size=32, **options), attributes, (), fields)
