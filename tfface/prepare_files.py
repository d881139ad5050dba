"""The files that `tfface.prepare` makes: class folders, label maps, drawings, exemplars."""

from __future__ import annotations

import itertools
import os
import shutil
import uuid
from pathlib import Path

from tfface.cli import import_tensorflow
from tfface.config import Data
from tfface.data import check_path
from tfface.data.base import SPLITS
from tfface.errors import UserError

Rules = dict[str, tuple[tuple[str, bool], ...]]


def folders(path: Path, out: Path, rules: Rules, limit: int | None = None) -> None:
    """Copies CelebA's images into `out/{train,val,test}/CLASS`; whole or not at all.

    Args:
        path: Folder of CelebA.
        out: Folder to make; must not exist, or be empty.
        rules: Attributes that the images of each class have (True) or lack (False).
        limit: Most images per class and split.

    Raises:
        UserError: `out` has something in it, an unknown attribute, an image that answers two
            rules, a rule that no training image answers.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is not empty; name a new folder, or remove this one first")
    import_tensorflow()

    from tfface.data import open_source

    source = open_source(Data("celeba", str(path)))
    chosen = {
        split: {name: source.select(split, *where) for name, where in rules.items()}
        for split in SPLITS
    }
    for split, classes in chosen.items():
        _check_exclusive(classes)
        for name, files in classes.items():
            if split == "train" and not files:
                raise UserError(f"--rule {name}: no training image answers it")
            classes[name] = files[:limit]
    temporary = out.absolute().with_name(f".{out.absolute().name}.{uuid.uuid4().hex}.tmp")
    try:
        for split, classes in chosen.items():
            for name, files in classes.items():
                (temporary / split / name).mkdir(parents=True)
                for file in files:
                    shutil.copyfile(file, temporary / split / name / file.name)
                print(f"{split:5}  {len(files):7}  {name}")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"wrote {out}")


def compose_label_maps(path: Path) -> None:
    """Writes `CelebAMask-HQ-label/{i}.png` for every image that has none yet.

    Args:
        path: Folder of CelebAMask-HQ.

    Raises:
        UserError: No such data set, too many bad masks, or a file cannot be written.
    """
    import_tensorflow()

    from tfface.data import open_source

    written = open_source(Data("celebamask_hq", str(path))).write_label_maps()
    print(f"wrote {written} label maps")


def draw(label_map: str | Path, photo: str | Path | None, size: int | None, out: Path) -> None:
    """Writes a line drawing; see `tfface.data.lines`.

    Args:
        label_map: A label map; its central square is drawn.
        photo: The photograph that it belongs to, of any size.
        size: Side of the drawing in pixels; None: as the central square.
        out: File to write.

    Raises:
        UserError: A file cannot be read or written, or the two are not of one shape.
    """
    from tfface.data import images, lines
    from tfface.data.label_maps import load_label_map, save_colours, to_labels

    labels, photograph = load_label_map(label_map), None
    size = size or min(labels.shape)
    if photo:
        photograph = images.load_image(photo)
        (height, width), (across, down) = labels.shape, photograph.size
        if abs(across * height - down * width) > max(across, down):
            raise UserError(
                f"--photo {photo}: is {across}x{down}, but {label_map} is {width}x{height}; "
                "expected the same proportions"
            )
        photograph = images.to_array(photograph, size)
    save_colours(lines.draw_lines(to_labels(labels, size), photograph), out)
    print(f"wrote {out}")


def draw_faces(split: str, count: int, size: int, out: Path) -> None:
    """Writes built-in faces as `face-0000.png`, ... and their label maps `label_map-0000.png`, ...

    Args:
        split: "train", "val" or "test".
        count: Number of faces.
        size: Side in pixels, a multiple of 32.
        out: Folder to write to; files of these names are replaced.

    Raises:
        UserError: An invalid size, or a folder that cannot be written to.
    """
    import_tensorflow()
    from tfface.data import open_source
    from tfface.data.images import save_image, to_image
    from tfface.data.label_maps import save_label_map

    source = open_source(Data(size=size), fields=("label_map",))
    batches = source.batches(split, min(count, 32))
    faces = ((f["image"][i], f["label_map"][i]) for f in batches for i in range(len(f["image"])))
    for number, (image, labels) in enumerate(itertools.islice(faces, count)):
        save_image(to_image(image.numpy()), out / f"face-{number:04}.png")
        save_label_map(labels.numpy(), out / f"label_map-{number:04}.png")
    print(f"wrote {count} faces and their label maps to {out}")


def list_exemplars(
    path: Path, count: int = 20, *, features: str = "vgg19", weights: str = "", size: int = 256
) -> None:
    """Writes `exemplars.txt`, see `tfface.data.files.FileSource.exemplars`; whole or not at all.

    Images are compared by the features relu5_2 of `perceptual_network`; see
    `tfface.data.retrieval.similar_images`.

    Args:
        path: Folder of CelebAMask-HQ.
        count: Images to list for each, as far as its split has so many others.
        features: "vgg19"; or "random", a stand-in that has learnt nothing: what it finds alike is
            as bright and of the same colours at best, whatever it shows.
        weights: File of VGG19's weights without its top, in Keras's layout; "": Keras downloads
            them.
        size: Side that images are compared at, in pixels; RABIT's util/retrieve_ref_vgg.py: 256.

    Raises:
        UserError: No such data set, too many bad images, no split with two of them, weights that
            are missing or something else, or the folder cannot be written to.
    """
    data = Data("celebamask_hq", str(path), size)
    check_path(data)
    if weights and features != "vgg19":
        raise UserError(f"--weights {weights}: is of no use with --features {features}")
    if weights and not Path(weights).is_file():
        raise UserError(f"--weights {weights}: no such file")
    if not os.access(path, os.W_OK):
        raise UserError(f"--path {path}: exemplars.txt cannot be written here: no permission")
    import_tensorflow()

    from tfface.data import open_source
    from tfface.data.files import EXEMPLARS
    from tfface.data.retrieval import similar_images
    from tfface.engine.run import write_text

    source = open_source(data)
    network, lines = _network(features, size, weights), []
    for split in SPLITS:
        found = similar_images(source, split, network, count)
        print(f"{split:5}  {len(found):7}")
        lines += [",".join(names) + "\n" for names in found]
    if not lines:
        raise UserError(f"{path}: no split has two images that could be compared")
    try:
        write_text(path / EXEMPLARS, "".join(lines))
    except OSError as error:
        raise UserError(f"{path / EXEMPLARS}: cannot be written: {error.strerror}") from error
    print(f"wrote {path / EXEMPLARS}")


def _network(features: str, size: int, weights: str):
    """The perceptual network; its mistakes in the words of this verb's options."""
    from tfface.layers.perceptual import perceptual_network

    try:
        return perceptual_network(features, size, weights)
    except UserError as error:
        if weights:
            expected = "not VGG19's weights without its top, in Keras's layout"
            raise UserError(f"--weights {weights}: {expected}") from error
        raise UserError(
            "VGG19's weights cannot be downloaded; give their file with --weights, or do with "
            "--features random"
        ) from error


def _check_exclusive(classes: dict[str, list[Path]]) -> None:
    owner: dict[Path, str] = {}
    for name, files in classes.items():
        for file in files:
            other = owner.setdefault(file, name)
            if other != name:
                raise UserError(
                    f"--rule: {file.name} answers both {other} and {name}; "
                    "add attributes so that each image answers one rule"
                )
