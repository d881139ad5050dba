"""Alignment of faces in photographs: detection, crops of known data sets, pasting of edits.

A crop convention states where the landmarks of a face are in a square image. The similarity
transform (shift, rotation, one scale) that moves the landmarks of a detected face there gives the
aligned crop. An edit of the crop returns to the photograph as a difference, with a soft border.

Landmarks are float [5,2], x and y in pixels (centre of the first pixel: 0): left eye as imaged,
right eye, tip of the nose, left corner of the mouth as imaged, right corner.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tfface.config import nearest
from tfface.errors import UserError

if TYPE_CHECKING:
    from skimage.transform import SimilarityTransform

    from tfface.config import Data

MIN_CROP = 48  # Smallest side of the crop of an edited face, in pixels of the photograph.
_MAX_CROP = 512  # Largest side of the crop that is sent to a model.
_MIN_SENT = 64
_DETECTED_SIDE = 1280  # Longer side at which faces are searched, in pixels.
_LISTED = 6  # Faces named in a message.
_CONFIDENCE = 0.9  # Above most of mtcnn's false detections, which it reports from 0.8 on.
# The weight of an edit in its crop: 1 in the middle, 0 from the border of a rounded square on.
_ROUNDNESS = 4.0  # Exponent of the norm whose unit ball is the rounded square.
_BORDER = 0.2  # Width of the soft border, relative to half of the side.


class NoFace(UserError):
    """A photograph without a face, or without as many faces as requested."""


class SmallFace(UserError):
    """The face in a photograph has too few pixels."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A crop convention.

    Attributes:
        title: What has this crop, for help texts.
        points: From landmarks to the points [K,2] that determine the crop.
        targets: Where these points are in the crop, [K,2] in units of its side, from its upper
            left corner.
    """

    title: str
    points: Callable[[np.ndarray], np.ndarray]
    targets: tuple[tuple[float, float], ...]


def _eyes_and_mouth(landmarks: np.ndarray) -> np.ndarray:
    return np.stack([landmarks[0], landmarks[1], landmarks[3:5].mean(0)])


def _centre_and_right(landmarks: np.ndarray) -> np.ndarray:
    """Centre and middle of the right side of the crop of CelebA-HQ and FFHQ.

    Karras et al., "Progressive growing of GANs", ICLR 2018, appendix C: from the eyes e0, e1 and
    the corners of the mouth m0, m1,

        x' = e1 - e0,  y' = (e0 + e1)/2 - (m0 + m1)/2
        c = (e0 + e1)/2 - 0.1 y',  s = max(4.0 |x'|, 3.6 |y'|)
        x = normalize(x' - rotate90(y'))

    give the centre c, the side s and the direction x of a horizontal side.
    """
    across = landmarks[1] - landmarks[0]
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:5].mean(0)
    up = eyes - mouth
    centre = eyes - 0.1 * up
    side = max(4.0 * np.hypot(*across), 3.6 * np.hypot(*up))
    direction = across + np.array([-up[1], up[0]])
    return np.stack([centre, centre + direction / np.hypot(*direction) * side / 2])


CROPS: dict[str, Crop] = {
    # The central square of img_align_celeba (178 x 218 pixels). In the function
    # align_face_celeba.m of the data set's authors the eyes are at (70.745, 112) and
    # (108.237, 112), and the middle of the mouth at (89.432, 153.514), counted from 1.
    "celeba": Crop(
        "central square of CelebA's aligned images",
        _eyes_and_mouth,
        ((0.3946, 0.5140), (0.6053, 0.5140), (0.4996, 0.7473)),
    ),
    "celeba_hq": Crop(
        "CelebA-HQ, CelebAMask-HQ and FFHQ", _centre_and_right, ((0.5, 0.5), (1.0, 0.5))
    ),
    # preprocess.py of ELEGANT and GeneGAN: mean landmarks scaled such that the eyes are 70 of 256
    # pixels apart, then vertically such that their line is at 1/2.42 of the height.
    "elegant": Crop(
        "ELEGANT's images of CelebA",
        np.asarray,
        ((0.3623, 0.4132), (0.6358, 0.4126), (0.4986, 0.5979), (0.3857, 0.7451), (0.6134, 0.7429)),
    ),
    # Inferred: StarGAN's instructions for RaFD say only that the face is centred in the square.
    # The mean landmarks of ELEGANT's preprocess.py, centred, with the eyes 0.32 apart.
    "rafd": Crop(
        "RaFD, centred as for StarGAN (inferred)",
        np.asarray,
        ((0.3389, 0.3418), (0.6589, 0.3412), (0.4983, 0.5327), (0.3662, 0.6847), (0.6327, 0.6825)),
    ),
    # Measured: medians of what the detector finds in 400 built-in faces of 128 pixels, mirrored.
    "synthetic": Crop(
        "built-in faces",
        np.asarray,
        ((0.3876, 0.4630), (0.6124, 0.4630), (0.5, 0.6070), (0.4040, 0.7250), (0.5960, 0.7250)),
    ),
}
"""Crop conventions by name."""

_OWN = {
    "synthetic": "synthetic",
    "celeba": "celeba",
    "celebamask_hq": "celeba_hq",
    "rafd": "rafd",
}
"""Crops of data sets that have one of their own."""


def crop_of(data: Data) -> str | None:
    """Name of the crop that the images of a data set have; None if it is unknown."""
    return _OWN.get(data.name) if data.crop == "own" else data.crop


def face_mask(data: Data, scale: float = 1.0) -> np.ndarray:
    """A soft ellipse around the faces of aligned images: from the brows' upper side to the chin.

    Its centre is halfway between the eyes' line and the mouth. It is 1 up to 1.2 times the distance
    of the eyes from the centre, and of the eyes' line from the mouth, and 0 from 1.5 times on
    (ours).

    Args:
        data: The data set, whose images must have a known crop.
        scale: Factor on both axes of the ellipse; 1.35 reaches from the hairline to below the chin.

    Returns:
        float32 [S,S,1] in [0,1].

    Raises:
        UserError: The crop is unknown.
    """
    name, size = crop_of(data), data.size
    if name is None:
        raise UserError(
            f"face_only needs the crop of the images, which is unknown for data.name "
            f"{data.name!r}: set data.crop to one of {', '.join(CROPS)}"
        )
    targets = np.array(CROPS[name].targets)
    if name == "celeba_hq":
        # From c and s of `_centre_and_right`, for faces with s = 4 |x'| = 3.6 |y'|.
        eyes, mouth, between = 0.5 - 0.1 / 3.6, 0.5 + 0.9 / 3.6, 1 / 4.0
    else:
        eyes, mouth = targets[:2, 1].mean(), targets[3 if len(targets) > 3 else 2 :, 1].mean()
        between = targets[1, 0] - targets[0, 0]
    row, column = ((np.arange(size) + 0.5) / size)[:, None], (np.arange(size) + 0.5) / size
    radius = np.hypot((row - (eyes + mouth) / 2) / (mouth - eyes), (column - 0.5) / between)
    outwards = np.clip((radius / scale - 1.2) / 0.3, 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * outwards)).astype(np.float32)[:, :, None]


def check_crop(name: str) -> str:
    """Returns the name of a crop; raises a UserError if there is none of this name."""
    if name not in CROPS:
        raise UserError(
            f"there is no crop {name!r}{nearest(name, CROPS)}; expected one of {', '.join(CROPS)}"
        )
    return name


@dataclasses.dataclass(frozen=True)
class Face:
    """A detected face.

    Attributes:
        box: Left, upper, right and lower border, in pixels.
        landmarks: The five landmarks.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray

    def __str__(self) -> str:
        left, upper, right, lower = (round(x) for x in self.box)
        return f"{right - left}x{lower - upper} pixels at ({left}, {upper})"


def numbered(faces: list[Face]) -> str:
    """The faces of a photograph for a message, numbered from the largest."""
    listed = ", ".join(f"{number}: {face}" for number, face in enumerate(faces[:_LISTED], 1))
    more = f", and {len(faces) - _LISTED} smaller ones" if len(faces) > _LISTED else ""
    return f"{len(faces)} faces ({listed}{more})"


_building = threading.Lock()


def _detector() -> Any:
    with _building:
        return _built_detector()


@functools.lru_cache
def _built_detector() -> Any:
    from tfface.cli import import_tensorflow

    import_tensorflow()
    try:
        from mtcnn import MTCNN
    except ImportError as error:
        raise UserError("aligning faces needs mtcnn: pip install 'tfface[align]'") from error
    return MTCNN()


def find_faces(image: Image.Image) -> list[Face]:
    """Detects the faces in a photograph, by mtcnn (Zhang et al. 2016); thread-safe.

    Faces are searched in the image reduced to 1,280 pixels, where they must have at least about 20.
    Uncertain detections count only if there is no certain one.

    Args:
        image: An RGB image.

    Returns:
        The faces, largest first.

    Raises:
        UserError: mtcnn is not installed.
    """
    factor = max(1.0, max(image.size) / _DETECTED_SIDE)
    size = tuple(max(1, round(side / factor)) for side in image.size)
    small = image if factor == 1 else image.resize(size, Image.Resampling.BILINEAR)
    # Larger values of min_face_size make mtcnn 1.0.0 find nothing: its pyramid then ends in images
    # that are too small for its network, and it takes the error for an image without faces.
    rows = _detector().detect_faces(np.asarray(small), output_type="numpy", box_format="xyxy")
    certain = rows[rows[:, 5] >= _CONFIDENCE]
    faces = []
    for row in certain if len(certain) else rows:
        left, upper, right, lower = (float(x) for x in row[1:5] * factor)
        landmarks = np.stack([row[6:11], row[11:16]], -1).astype(np.float64)
        faces.append(Face((left, upper, right, lower), (landmarks + 0.5) * factor - 0.5))
    return sorted(faces, key=lambda face: face.box[0] - face.box[2])


def to_crop(landmarks: np.ndarray, crop: str) -> SimilarityTransform:
    """The similarity transform from pixels of a photograph to its aligned crop.

    Args:
        landmarks: Landmarks of the face.
        crop: Name of the crop, from CROPS.

    Returns:
        A transform from coordinates in pixels to units of the crop's side, from its upper left
        corner.

    Raises:
        UserError: An unknown crop, or landmarks that all coincide.
    """
    from skimage.transform import estimate_transform

    convention = CROPS[check_crop(crop)]
    points = convention.points(np.asarray(landmarks, np.float64))
    found = estimate_transform("similarity", points, np.array(convention.targets))
    if not found or not np.isfinite(found.params).all():
        raise UserError(f"the landmarks {np.round(landmarks, 1).tolist()} are not those of a face")
    return found


def cut(image: Image.Image, transform: SimilarityTransform, side: int) -> Image.Image:
    """Cuts an aligned crop out of a photograph (bicubic, antialiased).

    Args:
        image: An RGB photograph.
        transform: As from `to_crop`.
        side: Side of the crop in pixels.

    Returns:
        The crop, an RGB square. Beyond the photograph its border is continued.
    """
    from skimage.transform import warp

    corners = transform.inverse(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    factor = max(1.0, _side(transform) / side)
    left, upper, right, lower = _box(corners, 3 * factor, image.size)
    size = (max(1, round((right - left) / factor)), max(1, round((lower - upper) / factor)))
    region = image.crop((left, upper, right, lower)).resize(size, Image.Resampling.BICUBIC)
    scale_x, scale_y = size[0] / (right - left), size[1] / (lower - upper)
    to_region = np.array(
        [
            [scale_x, 0, (0.5 - left) * scale_x - 0.5],
            [0, scale_y, (0.5 - upper) * scale_y - 0.5],
            [0, 0, 1],
        ]
    )
    pixels = np.asarray(region, np.float32)
    inverse = to_region @ transform.inverse.params @ _to_unit(side)
    values = warp(pixels, inverse, output_shape=(side, side), order=3, mode="edge", clip=False)
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def paste(
    image: Image.Image,
    edited: np.ndarray,
    crop: np.ndarray,
    transform: SimilarityTransform,
) -> Image.Image:
    """Adds the edit of an aligned crop to its photograph, with a soft border.

    Args:
        image: The photograph, RGB.
        edited: The edited crop, [S,S,3] in [0,255].
        crop: The crop before the edit, [S,S,3].
        transform: As from `to_crop`.

    Returns:
        A copy of the photograph with the difference of the crops added (bicubic). All pixels
        outside the crop are unchanged, and all pixels where the edit changes nothing.
    """
    from skimage.transform import warp

    side = len(crop)
    corners = transform.inverse(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    left, upper, right, lower = _box(corners, 0, image.size)
    shift = np.array([[1, 0, left], [0, 1, upper], [0, 0, 1]])
    inverse = transform.params @ shift
    shape = (lower - upper, right - left)
    difference = np.asarray(edited, np.float32) - np.asarray(crop, np.float32)
    change = warp(
        difference,
        np.linalg.inv(_to_unit(side)) @ inverse,
        output_shape=shape,
        order=3,
        mode="edge",
        clip=False,
    )
    change *= _weight(inverse.astype(np.float32), shape)[..., None]
    before = np.asarray(image.crop((left, upper, right, lower)), np.float32)
    values = np.rint(before + change).clip(0, 255).astype(np.uint8)
    result = image.copy()
    result.paste(Image.fromarray(values), (left, upper))
    return result


def _side(transform: SimilarityTransform) -> float:
    """Side of a crop, in pixels of the photograph."""
    return 1 / float(transform.scale)


def _to_unit(side: int) -> np.ndarray:
    """Matrix from the pixels of a crop to units of its side."""
    return np.array([[1 / side, 0, 0.5 / side], [0, 1 / side, 0.5 / side], [0, 0, 1]])


def _box(corners: np.ndarray, margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, upper, right and lower border of the pixels around a crop, at least one pixel."""
    low = np.floor(corners.min(0) - margin).astype(int).clip(0, np.array(size) - 1)
    high = np.ceil(corners.max(0) + margin).astype(int) + 1
    high = np.maximum(high.clip(0, size), low + 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _weight(to_unit: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Weight of the edit of each pixel, float32 [H,W] from 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    u = to_unit[0, 0] * x + to_unit[0, 1] * y + to_unit[0, 2]
    v = to_unit[1, 0] * x + to_unit[1, 1] * y + to_unit[1, 2]
    radius = (np.abs(2 * u - 1) ** _ROUNDNESS + np.abs(2 * v - 1) ** _ROUNDNESS) ** (1 / _ROUNDNESS)
    ramp = ((1 - radius) / _BORDER).clip(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


@dataclasses.dataclass(frozen=True)
class AlignedFace:
    """An aligned face of a photograph.

    Attributes:
        image: The photograph.
        crop: The aligned crop, an RGB square.
        transform: As from `to_crop`.
        faces: All faces in the photograph, largest first.
        number: Number of this face among them, from 1.
    """

    image: Image.Image
    crop: Image.Image
    transform: SimilarityTransform
    faces: list[Face]
    number: int

    def cut(self, edited: Image.Image) -> Image.Image:
        """The crop of an edited photograph; other images are returned as they are."""
        same = edited.size == self.image.size
        return cut(edited, self.transform, self.crop.width) if same else edited

    def paste(self, edited: Image.Image) -> Image.Image:
        """The photograph with the edit of its crop; see the function `paste`."""
        return paste(self.image, np.asarray(edited), np.asarray(self.crop), self.transform)


def align(
    image: Image.Image,
    crop: str,
    *,
    number: int = 1,
    name: str = "the image",
    side: int | None = None,
    least: int = MIN_CROP,
) -> AlignedFace:
    """Finds a face in a photograph and cuts out its aligned crop.

    Args:
        image: The photograph, RGB.
        crop: Name of the crop, from CROPS.
        number: Number of the face: 1 for the largest, 2 for the second largest, ...
        name: Name of the photograph in messages.
        side: Side of the crop in pixels; None: as in the photograph, between 64 and 512.
        least: Minimum side of the crop in pixels of the photograph.

    Raises:
        NoFace: No face was found, or fewer than `number`.
        SmallFace: The crop has fewer pixels than `least`.
        UserError: An unknown crop, or mtcnn is not installed.
    """
    check_crop(crop)
    faces = find_faces(image)
    if not faces:
        raise NoFace(f"{name}: no face was found")
    if number > len(faces):
        raise NoFace(f"{name}: has no face {number}: found {numbered(faces)}")
    face = faces[number - 1]
    transform = to_crop(face.landmarks, crop)
    natural = math.ceil(_side(transform))
    if natural < least:
        raise SmallFace(
            f"{name}: the face of {face} is too small: its crop has {natural} pixels on a side, "
            f"expected at least {least}"
        )
    side = side or min(max(natural, _MIN_SENT), _MAX_CROP)
    return AlignedFace(image, cut(image, transform, side), transform, faces, number)
