"""Aligned crops of faces, and edits that return to their photograph."""

import sys
from typing import get_args

import numpy as np
import pytest
from encoded_images import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from scenes import SIZE, scene
from skimage.data import astronaut
from skimage.transform import SimilarityTransform, warp

from tfface.config import Crop, Data
from tfface.data import alignment
from tfface.data.alignment import (
    CROPS,
    NoFace,
    SmallFace,
    align,
    crop_of,
    cut,
    face_mask,
    find_faces,
    paste,
    to_crop,
)
from tfface.data.images import load_image
from tfface.errors import UserError

# Of a frontal face in an image of 256 pixels.
LANDMARKS = np.array([[98, 110], [158, 108], [128, 145], [104, 172], [154, 171]], float)


def smooth(size=256):
    """An image without fine detail, which resampling hardly changes."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + 3 * y + 2), np.cos(5 * y - 2 * x), np.sin(6 * x * y + 1)]
    return Image.fromarray(np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8))


def difference(one, other):
    return np.abs(np.asarray(one, int) - np.asarray(other, int))


def test_the_names_of_the_config_are_those_of_the_crops():
    assert get_args(Crop) == tuple(CROPS)


@pytest.mark.parametrize("name", CROPS)
def test_the_mask_of_a_face_covers_its_parts_but_not_the_border(name):
    size = 128
    mask = face_mask(Data(name="folder", path="faces", crop=name, size=size))
    assert mask.shape == (size, size, 1)
    mask = mask[:, :, 0]
    assert mask.dtype == np.float32 and mask.min() == 0.0 and mask.max() == 1.0
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-5)
    assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    if len(CROPS[name].targets) > 2:  # Not where the centre and the right side determine the crop.
        rows, columns = (np.array(CROPS[name].targets).T[::-1] * size).astype(int)
        assert (mask[rows, columns] == 1.0).all()


def test_a_larger_mask_contains_the_smaller_one_and_the_forehead():
    data = Data(name="celeba", path="CelebA", size=64)
    small, large = (face_mask(data, scale)[:, :, 0] for scale in (1.0, 1.35))
    assert (large >= small).all() and large.sum() > 1.5 * small.sum()
    assert small[17, 32] < 0.1 and large[17, 32] == 1.0  # Above the brows.
    assert not large[[0, 0, -1, -1], [0, -1, 0, -1]].any()


@pytest.mark.parametrize("name", CROPS)
@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(0.5, 2),
    angle=st.floats(-3.1, 3.1),
    shift=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)
def test_the_crop_does_not_depend_on_position_size_and_rotation(name, scale, angle, shift):
    image, side = smooth(), 64
    away = SimilarityTransform(translation=(-127.5, -127.5)) + SimilarityTransform(
        scale=scale, rotation=angle, translation=(400 + shift[0], 400 + shift[1])
    )
    moved = warp(
        np.asarray(image), away.inverse, output_shape=(800, 800), order=3, preserve_range=True,
        mode="edge",
    )  # fmt: skip
    moved = Image.fromarray(moved.clip(0, 255).astype(np.uint8))
    crop = cut(image, to_crop(LANDMARKS, name), side)
    again = cut(moved, to_crop(away(LANDMARKS), name), side)
    inside = slice(6, -6)  # Crops may reach beyond the image, whose border is continued.
    assert difference(crop, again)[inside, inside].max() <= 6
    assert np.std(np.asarray(crop)) > 20


@pytest.mark.parametrize("name", CROPS)
@given(scale=st.floats(0.1, 10), angle=st.floats(-3.1, 3.1), x=st.floats(-500, 500))
def test_landmarks_always_have_the_same_places_in_the_crop(name, scale, angle, x):
    moved = SimilarityTransform(scale=scale, rotation=angle, translation=(x, -x))(LANDMARKS)
    places = to_crop(LANDMARKS, name)(LANDMARKS)
    np.testing.assert_allclose(to_crop(moved, name)(moved), places, atol=1e-6)
    assert (places > 0.2).all() and (places < 0.8).all()
    assert places[0, 0] < places[1, 0] and places[3, 1] > places[0, 1] + 0.15


def test_celeba_hq_is_the_square_of_the_published_equations():
    across, up = LANDMARKS[1] - LANDMARKS[0], LANDMARKS[:2].mean(0) - LANDMARKS[3:].mean(0)
    found = to_crop(LANDMARKS, "celeba_hq")
    side = max(4 * np.linalg.norm(across), 3.6 * np.linalg.norm(up))
    assert 1 / found.scale == pytest.approx(side)
    centre = LANDMARKS[:2].mean(0) - 0.1 * up
    np.testing.assert_allclose(found(centre[None]), [[0.5, 0.5]], atol=1e-9)


def test_landmarks_in_one_point_are_no_face():
    with pytest.raises(UserError, match="not those of a face"):
        to_crop(np.ones([5, 2]), "celeba")
    with pytest.raises(UserError, match="'celebb'.*celeba"):
        to_crop(LANDMARKS, "celebb")


def test_data_sets_have_their_own_crop_and_others_can_be_named():
    assert crop_of(Data()) == "synthetic"
    assert crop_of(Data("celebamask_hq", "x")) == "celeba_hq"
    assert crop_of(Data("folder", "x")) is None
    assert crop_of(Data("folder", "x", crop="elegant")) == "elegant"
    assert crop_of(Data("celeba", "x", crop="elegant")) == "elegant"


def test_reduced_crops_are_antialiased():
    board = np.indices([512, 512]).sum(0) % 2 * 255
    image = Image.fromarray(np.repeat(board[..., None], 3, -1).astype(np.uint8))
    crop = np.asarray(cut(image, to_crop(2 * LANDMARKS, "celeba_hq"), 64))
    assert np.abs(crop.astype(int) - 127).max() < 12


# Pasting.


@pytest.mark.parametrize("name", CROPS)
def test_an_edit_changes_nothing_outside_its_crop(name):
    image, landmarks = scene()
    transform = to_crop(landmarks[0], name)
    crop = np.asarray(cut(image, transform, 200))
    result = paste(image, 255 - crop, crop, transform)
    assert result.size == image.size
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    places = transform(np.stack([x.ravel(), y.ravel()], -1)).reshape(*x.shape, 2)
    outside = (np.abs(places - 0.5) > 0.5).any(-1)
    changed = difference(result, image)
    assert outside.any() and not changed[outside].any()
    middle = (np.abs(places - 0.5) < 0.3).all(-1)
    assert changed[middle].mean() > 40
    # The border is soft: neighbouring pixels change by similar amounts.
    white, grey = np.full([64, 64, 3], 228), np.full([64, 64, 3], 128)
    step = difference(paste(Image.new("RGB", SIZE), white, grey, transform), 0)
    assert step.max() == 100
    assert max(np.abs(np.diff(step, axis=axis)).max() for axis in (0, 1)) <= 12


def test_an_edit_without_a_change_keeps_every_bit():
    image, landmarks = scene()
    transform = to_crop(landmarks[0], "celeba")
    crop = np.asarray(cut(image, transform, 150))
    assert not difference(paste(image, crop, crop, transform), image).any()


def test_a_crop_that_reaches_beyond_the_photograph_is_pasted_within_it():
    image, landmarks = scene()
    near = image.crop((120, 130, 300, 300))
    transform = to_crop(landmarks[0] - [120, 130], "celeba")
    crop = np.asarray(cut(near, transform, 128))
    result = paste(near, crop // 2, crop, transform)
    assert result.size == near.size and difference(result, near).mean() > 10


# Detection.


@pytest.mark.parametrize("angles", [(-20, 15), (0, 30), (25, -25)])
def test_built_in_faces_are_found_largest_first(angles):
    image, landmarks = scene(angles=angles)
    faces = find_faces(image)
    assert len(faces) == 2
    for face, expected in zip(faces, landmarks, strict=True):
        eyes = np.linalg.norm(expected[1] - expected[0])
        assert np.abs(face.landmarks - expected).max() < 0.25 * eyes
        left, upper, right, lower = face.box
        assert left < expected[:, 0].mean() < right and upper < expected[:, 1].mean() < lower
    # The crop is that of the drawn face, up to the accuracy of the landmarks.
    found, drawn = (to_crop(x, "synthetic") for x in (faces[0].landmarks, landmarks[0]))
    assert abs(np.degrees(found.rotation - drawn.rotation)) < 6
    assert found.scale / drawn.scale == pytest.approx(1, abs=0.12)


def test_the_landmarks_of_a_large_photograph_are_in_its_pixels():
    image = Image.fromarray(astronaut())
    [face] = find_faces(image)
    large = find_faces(image.resize((1536, 1536)))[0]
    np.testing.assert_allclose(large.landmarks, 3 * face.landmarks + 1, atol=8)


def test_a_face_is_chosen_by_its_number():
    image, landmarks = scene()
    for number in (1, 2):
        face = align(image, "celeba", number=number)
        inside = face.transform(landmarks[number - 1])
        assert face.number == number and len(face.faces) == 2
        assert (inside > 0.2).all() and (inside < 0.85).all()
        assert 64 <= face.crop.width == face.crop.height <= 512
    with pytest.raises(NoFace, match=r"me.jpg: has no face 3: found 2 faces \(1: \d+x\d+ pixels"):
        align(image, "celeba", number=3, name="me.jpg")


def test_no_face_and_tiny_faces_are_reported_with_the_name():
    for image in (smooth(), Image.new("RGB", (16, 16)), Image.new("RGB", (300, 100), "white")):
        with pytest.raises(NoFace, match=r"me.jpg: no face was found"):
            align(image, "celeba", name="me.jpg")
    small = Image.fromarray(astronaut()).resize((150, 150))
    with pytest.raises(SmallFace, match=r"me.jpg: .*too small.*expected at least 400"):
        align(small, "celeba", name="me.jpg", least=400)


FORMS = {
    "grey": lambda image: encoded(image.convert("L"), "JPEG", quality=95),
    "alpha": lambda image: encoded(image.convert("RGBA")),
    "16 bit": lambda image: encoded(
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    ),
    "CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=95),
    "palette": lambda image: encoded(image.quantize(256)),
    "WebP": lambda image: encoded(image, "WEBP", quality=95),
}


@pytest.mark.parametrize("form", FORMS)
def test_faces_are_found_in_every_form_of_image(form):
    photograph = Image.fromarray(astronaut())
    expected = align(photograph, "celeba_hq")
    found = align(load_image(FORMS[form](photograph)), "celeba_hq")
    eyes = np.linalg.norm(np.subtract(*expected.faces[0].landmarks[:2]))
    assert np.abs(found.faces[0].landmarks - expected.faces[0].landmarks).max() < 0.15 * eyes


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photographs_are_turned_upright_before_the_search(orientation):
    turn = {3: 180, 6: 90, 8: 270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = Image.fromarray(astronaut())
    stored = encoded(photograph.rotate(turn, expand=True), exif=exif)
    assert not difference(load_image(stored), photograph).any()
    assert len(find_faces(load_image(stored))) == 1


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    monkeypatch.setattr(alignment, "_built_detector", alignment._built_detector.__wrapped__)
    with pytest.raises(UserError, match=r"pip install 'tfface\[align\]'"):
        find_faces(smooth())


# Decoding of photographs.


def test_colour_profiles_of_grey_and_cmyk_images_are_not_kept_for_rgb():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = smooth(64)
    for mode in ("L", "CMYK"):
        stored = encoded(image.convert(mode), "JPEG", icc_profile=profile)
        assert "icc_profile" not in load_image(stored).info
    assert load_image(encoded(image, icc_profile=profile)).info["icc_profile"] == profile
