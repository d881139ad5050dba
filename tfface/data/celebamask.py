"""CelebAMask-HQ in its native layout: faces with label maps."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfface.data import check_path
from tfface.data.celeba import PARTITION, find, read_attributes, read_partition, read_rows
from tfface.data.files import FileSource, check_names, logger, shortened, split_by_name
from tfface.data.images import is_image_name, opened
from tfface.data.label_maps import CLASSES_19, load_label_map, save_label_map
from tfface.errors import UserError

_IMAGES = "CelebA-HQ-img"
_PARTS = ("CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask-anno")
_LABELS = "CelebAMask-HQ-label"
_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
_ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"


class CelebAMaskHQ(FileSource):
    """CelebAMask-HQ as downloaded: images, and a mask for each part of each face.

    Needs `CelebA-HQ-img/{i}.jpg`, and for label maps `CelebAMask-HQ-mask-anno/{i//2000}/
    {i:05d}_{part}.png` or, faster, `CelebAMask-HQ-label/{i}.png`, which `write_label_maps` composes
    from them. With `CelebA-HQ-to-CelebA-mapping.txt` and CelebA's `list_eval_partition.txt` the
    splits are the official ones, otherwise they follow from a hash of the names, 90 : 5 : 5.
    Attributes need `CelebAMask-HQ-attribute-anno.txt`. Batches have `image`, and if requested
    `label_map` and `attributes`.
    """

    _from_files = ("image", "label_map")

    def __init__(self, data, attributes=(), classes=(), fields=()):
        super().__init__(data, attributes, classes, fields)
        check_path(data)
        root = self._path = Path(data.path)
        if classes:
            raise UserError(
                f"{root}: CelebAMask-HQ has no expression classes (requested: {', '.join(classes)})"
            )
        folder = find(root, (_IMAGES,), "images of CelebAMask-HQ")
        names = [name for name in os.listdir(folder) if is_image_name(name)]
        names = sorted((n for n in names if Path(n).stem.isdecimal()), key=_number)
        if not names:
            raise UserError(f"{folder}: has no images; expected 0.jpg to 29999.jpg")
        if "label_map" in self.fields:
            self._check_masks()
        known, table = _attributes(root, names, required=bool(attributes))
        check_names("attribute", attributes, known, root / _ATTRIBUTES)
        columns = [known.index(name) for name in attributes]
        self._set_files(
            folder,
            names,
            _splits(root, names),
            labels={"attributes": table[:, columns].astype(np.int32)} if columns else {},
            tags={name: table[:, i] for i, name in enumerate(known)},
        )

    def exemplars(self, split, batch_size, *, seed=None, start=0, paired=1.0):
        """See `FileSource.exemplars`."""
        self._check_masks()
        return super().exemplars(split, batch_size, seed=seed, start=start, paired=paired)

    def write_label_maps(self) -> int:
        """Composes the masks of each image that has no `CelebAMask-HQ-label/{i}.png` yet.

        Each file is written atomically, so this can be interrupted and repeated.

        Returns:
            The number of files written.

        Raises:
            UserError: More than 1 % of the images have bad masks, or a file cannot be written.
        """
        parts = find(self._path, _PARTS, "masks of CelebAMask-HQ")
        labels = self._path / _LABELS
        missing = [row for row, name in enumerate(self._names)
                   if not (labels / f"{_number(name)}.png").exists()]  # fmt: skip

        def write(row: int) -> int:
            number = _number(self._names[row])
            try:
                label_map = compose(parts, number)
            except UserError as error:
                self._note_bad(row, ("label_map",), str(error))
                return 0
            save_label_map(label_map, labels / f"{number}.png")
            return 1

        written = 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for done, one in enumerate(pool.map(write, missing), 1):
                    written += one
                    if done % 1000 == 0:
                        logger.info("%d of %d", done, len(missing))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return written

    def _check_masks(self) -> None:
        find(self._path, (*_PARTS, _LABELS), "masks of CelebAMask-HQ")

    def _read_fields(self, row, kinds):
        stored = super()._read_fields(row, kinds)
        if "label_map" in kinds:
            number = _number(self._names[row])
            whole = self._path / _LABELS / f"{number}.png"
            if whole.exists():
                stored["label_map"] = load_label_map(whole)
            else:
                parts = find(self._path, _PARTS, f"masks of {self._names[row]}")
                stored["label_map"] = compose(parts, number)
        return stored


def compose(folder: Path, number: int) -> np.ndarray:
    """Composes the masks of a face into a label map, later classes over earlier ones.

    Args:
        folder: `CelebAMask-HQ-mask-anno`.
        number: The image's number.

    Returns:
        Class ids, uint8 [H,W], of the size of the masks.

    Raises:
        UserError: There are no masks, a mask cannot be read, or the masks differ in size.
    """
    stem = folder / str(number // 2000) / f"{number:05d}"
    labels = None
    for code, part in enumerate(CLASSES_19[1:], 1):
        path = f"{stem}_{part}.png"
        if not os.path.exists(path):
            continue
        with opened(path, path, "not a PNG", ("PNG",)) as image:
            mask = np.asarray(image.convert("L")) > 127
        if labels is None:
            labels = np.zeros(mask.shape, np.uint8)
        if mask.shape != labels.shape:
            height, width = labels.shape
            raise UserError(f"{path}: expected {width}x{height} pixels, as the other masks have")
        labels[mask] = code
    if labels is None:
        raise UserError(f"{stem}_*.png: no masks of this image")
    return labels


def _number(name: str) -> int:
    return int(Path(name).stem)


def _attributes(root: Path, names: list[str], required: bool) -> tuple[list[str], np.ndarray]:
    """Attribute names, and values bool [N,A]; no attributes if the file is missing."""
    path = root / _ATTRIBUTES
    if not path.exists() and not required:
        return [], np.zeros((len(names), 0), bool)
    listed, known, table = read_attributes(find(root, (_ATTRIBUTES,), "attributes"))
    row_of = {name: row for row, name in enumerate(listed)}
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise UserError(f"{path}: has no row for {shortened(unknown)}")
    return known, table[[row_of[name] for name in names]]


def _splits(root: Path, names: list[str]) -> np.ndarray:
    """The split of each image, as indices into SPLITS, int8 [N]."""
    path = root / _MAPPING
    if not path.exists() or not any((root / name).exists() for name in PARTITION):
        logger.info(
            "%s: no %s or no list_eval_partition.txt of CelebA: images are split by their names",
            root, _MAPPING,
        )  # fmt: skip
        return split_by_name(names)
    rows = read_rows(path)
    original = {int(row[0]): row[2] for row in rows if len(row) == 3 and row[0].isdecimal()}
    unknown = [name for name in names if _number(name) not in original]
    if unknown:
        raise UserError(
            f"{path}: expected rows of number, original number and original file; "
            f"has no row for {shortened(unknown)}"
        )
    return read_partition(root, [original[_number(name)] for name in names])
