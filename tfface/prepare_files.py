"""Files written by `tfface.prepare`: class folders, label maps, line drawings, exemplars."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from tfface.cli import import_tensorflow
from tfface.config import Data
from tfface.data import check_path
from tfface.data.base import SHARD, SPLITS
from tfface.errors import UserError
from tfface.paths import new_folder

Rules = dict[str, tuple[tuple[str, bool], ...]]


def folders(path: Path, out: Path, rules: Rules, limit: int | None = None) -> None:
    """Copies CelebA's images to `out/{train,val,test}/CLASS`, atomically.

    Args:
        path: Folder of CelebA.
        out: Folder to create; it must not exist or be empty.
        rules: Attributes that the images of each class must have (True) or lack (False).
        limit: Maximum number of images per class and split.

    Raises:
        UserError: `out` is not empty, an attribute is unknown, an image matches two rules, or no
            training image matches a rule.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: expected a new or empty folder")
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
                raise UserError(f"rule {name}: no training image matches")
            classes[name] = files[:limit]
    with new_folder(out) as temporary:
        for split, classes in chosen.items():
            for name, files in classes.items():
                (temporary / split / name).mkdir(parents=True)
                for file in files:
                    shutil.copyfile(file, temporary / split / name / file.name)
                print(f"{split:5}  {len(files):7}  {name}")
    print(f"wrote {out}")


def compose_label_maps(path: Path) -> None:
    """Writes missing label maps `CelebAMask-HQ-label/{i}.png`.

    Args:
        path: Folder of CelebAMask-HQ.

    Raises:
        UserError: No such data set, too many unreadable masks, or a file cannot be written.
    """
    import_tensorflow()

    from tfface.data import open_source

    written = open_source(Data("celebamask_hq", str(path))).write_label_maps()
    print(f"wrote {written} label maps")


def draw(
    label_map: str | Path | None, photo: str | Path | None, size: int | None, out: Path
) -> None:
    """Writes a line drawing of the central square; see `tfface.data.lines`.

    Args:
        label_map: A label map; None: only the edges of the photograph are drawn.
        photo: Photograph of the label map, of any size.
        size: Side of the drawing in pixels; None for the side of the central square.
        out: File to write.

    Raises:
        UserError: A file cannot be read or written, the two have different proportions, or there is
            neither.
    """
    from tfface.data import images, lines
    from tfface.data.label_maps import load_label_map, save_colours, to_labels

    if not label_map:
        if not photo:
            raise UserError("expected a label map, or a photograph with --photo, or both")
        photograph = images.load_image(photo)
        square = images.to_array(photograph, size or min(photograph.size))
        save_colours(lines.draw_edges(square), out)
        print(f"wrote {out}")
        return
    labels, photograph = load_label_map(label_map), None
    size = size or min(labels.shape)
    if photo:
        photograph = images.load_image(photo)
        (height, width), (across, down) = labels.shape, photograph.size
        if abs(across * height - down * width) > max(across, down):
            raise UserError(
                f"{photo} is {across}x{down}, but {label_map} is {width}x{height}; "
                "expected the same proportions"
            )
        photograph = images.to_array(photograph, size)
    save_colours(lines.draw_lines(to_labels(labels, size), photograph), out)
    print(f"wrote {out}")


def draw_faces(split: str, count: int, size: int, out: Path) -> None:
    """Writes built-in faces as `face-0000.png`, ... and their label maps in `label_maps/`.

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
        name = f"face-{number:04}.png"
        save_image(to_image(image.numpy()), out / name)
        save_label_map(labels.numpy(), out / "label_maps" / name)
    print(f"wrote {count} faces to {out}, and their label maps to {out / 'label_maps'}")


def shards(data: Data, out: str, size: int | None = None, images: int = SHARD) -> None:
    """Writes a data set as TFRecord files; see `tfface.data.shards`.

    Args:
        data: The data set.
        out: Folder to write, which may be a remote one.
        size: Side in pixels of the stored images; None: the files as they are.
        images: Number of images in a file.

    Raises:
        UserError: No such data set, too many unreadable images, `out` has other shards, or it
            cannot be written to.
    """
    import_tensorflow()

    from tfface.data import open_source
    from tfface.data.shards import is_sharded, write_shards

    if is_sharded(data.path):
        raise UserError(f"{data.path}: expected the original files, not shards")
    fields = ("label_map",) if data.name == "celebamask_hq" else ()
    source = open_source(data, fields=fields)
    bad = write_shards(source, out, size=size, images=images)
    for split in SPLITS:
        print(f"{split:5}  {source.count(split):7}")
    print(f"wrote {out}" + (f"; {len(bad)} images cannot be read" if bad else ""))


def list_exemplars(
    path: Path, count: int = 20, *, features: str = "vgg19", weights: str = "", size: int = 256
) -> None:
    """Writes `exemplars.txt` (see `tfface.data.files.FileSource.exemplars`), atomically.

    Images are compared by the features relu5_2 of `perceptual_network`; see
    `tfface.data.retrieval.similar_images`.

    Args:
        path: Folder of CelebAMask-HQ.
        count: Number of images to list for each image, or fewer in a small split.
        features: "vgg19"; or "random" for an untrained stand-in, which finds images of similar
            brightness and colours at best.
        weights: File of VGG19's weights without top, in Keras's layout; "" to download them.
        size: Side in pixels at which images are compared; 256 in RABIT's util/retrieve_ref_vgg.py.

    Raises:
        UserError: No such data set, too many unreadable images, no split with two images, missing
            or unsuitable weights, or the folder cannot be written to.
    """
    data = Data("celebamask_hq", str(path), size)
    check_path(data)
    if weights and features != "vgg19":
        raise UserError(f"weights {weights}: expected features vgg19, not {features}")
    if weights and not Path(weights).is_file():
        raise UserError(f"weights {weights}: no such file")
    if not os.access(path, os.W_OK):
        raise UserError(f"{path}: exemplars.txt cannot be written: no permission")
    import_tensorflow()

    from tfface.data import open_source
    from tfface.data.files import EXEMPLARS
    from tfface.data.retrieval import similar_images
    from tfface.engine.run import write_text

    source = open_source(data)
    network, lines = _network(features, size, weights), []
    for split in SPLITS:
        similar = similar_images(source, split, network, count)
        print(f"{split:5}  {len(similar):7}")
        lines += [",".join(names) + "\n" for names in similar]
    if not lines:
        raise UserError(f"{path}: no split has two images to compare")
    try:
        write_text(path / EXEMPLARS, "".join(lines))
    except OSError as error:
        raise UserError(f"{path / EXEMPLARS}: cannot be written: {error.strerror}") from error
    print(f"wrote {path / EXEMPLARS}")


def _network(features: str, size: int, weights: str):
    """The perceptual network; errors name the options of `list_exemplars`."""
    from tfface.layers.perceptual import perceptual_network

    try:
        return perceptual_network(features, size, weights)
    except UserError as error:
        if weights:
            problem = "expected VGG19's weights without top, in Keras's layout"
            raise UserError(f"weights {weights}: {problem}") from error
        raise UserError(
            "VGG19's weights cannot be downloaded; set the option weights to their file, or the "
            "option features to random"
        ) from error


def _check_exclusive(classes: dict[str, list[Path]]) -> None:
    owner: dict[Path, str] = {}
    for name, files in classes.items():
        for file in files:
            other = owner.setdefault(file, name)
            if other != name:
                raise UserError(
                    f"{file.name} matches the rules of both {other} and {name}; add attributes so "
                    f"that each image matches only one"
                )
