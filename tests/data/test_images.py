"""Loading, preprocessing, pasting and saving of images, in Python and in exported graphs."""

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from encoded_images import SIZES, encoded, noise
from PIL import Image

from tfface.client.packing import Encoded
from tfface.data import images
from tfface.errors import UserError


def gradient(width=40, height=60):
    """A smooth image that every flip or rotation changes."""
    y, x = np.mgrid[:height, :width]
    values = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], -1)
    return Image.fromarray(values.astype(np.uint8))


def test_to_array_crops_the_central_square_and_scales():
    assert images.face_box(178, 218) == (0, 20, 178, 198)
    assert images.face_box(30, 21) == (4, 0, 25, 21)
    array = images.to_array(gradient(40, 60), 40)
    assert array.shape == (40, 40, 3) and array.dtype == np.float32
    square = np.asarray(gradient(40, 60))[10:50]
    np.testing.assert_allclose(array, square / 127.5 - 1, atol=1e-6)
    white = Image.new("RGB", (20, 20), "white")
    assert np.all(images.to_array(white, 32) == 1)


def test_resizing_matches_tensorflow():
    """Exported graphs resize with tf.image.resize; Pillow rounds to 8 bits in between."""
    tf = pytest.importorskip("tensorflow")
    noise = np.random.default_rng(0).integers(0, 256, (178, 178, 3), np.uint8)
    ours = images.to_array(Image.fromarray(np.pad(noise, ((20, 20), (0, 0), (0, 0)))), 64)
    theirs = tf.image.resize(noise, (64, 64), antialias=True).numpy() / 127.5 - 1
    assert np.abs(ours - theirs).max() <= 1.01 / 127.5


def test_to_image_inverts_to_array_and_clips():
    image = gradient(40, 40)
    assert images.to_image(images.to_array(image, 40)) == image
    clipped = np.asarray(images.to_image(np.array([[[-2.0, 2.0, 0.0]]])))
    assert clipped.tolist() == [[[0, 255, 128]]]


def test_paste_back_changes_the_face_box_only():
    image = gradient(40, 60)
    before, face = image.copy(), images.to_array(image, 16)
    result = images.paste_back(image, face - 2, face)
    assert image == before and result.size == image.size
    values, original = np.asarray(result), np.asarray(image)
    assert np.all(values[10:50] == 0)
    np.testing.assert_array_equal(values[:10], original[:10])
    np.testing.assert_array_equal(values[50:], original[50:])


# Sizes larger than, smaller than and equal to the network's; odd sizes; not square.


@pytest.mark.parametrize("size", SIZES)
def test_paste_back_of_an_unchanged_face_keeps_all_pixels(size):
    image = noise(*size)
    face = images.to_array(image, 32)
    same = images.paste_back(image, face.copy(), face)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))


def test_paste_back_keeps_the_detail_of_the_image():
    """Brightening the middle by 20 levels changes a large image by 20 levels there."""
    detail = Image.fromarray(np.asarray(noise(320, 480)) // 2 + 50)
    face = images.to_array(detail, 32)
    edited = face.copy()
    edited[8:24, 8:24] += 20 / 127.5
    change = np.asarray(images.paste_back(detail, edited, face), int) - np.asarray(detail, int)
    square = change[80:400]
    assert np.all(square[110:210, 110:210] == 20)
    assert np.all(square[:50] == 0) and np.all(square[:, 270:] == 0)
    assert np.abs(np.diff(square[160, :, 0])).max() <= 3  # Enlarged tenfold without edges.


@pytest.mark.parametrize("size", SIZES)
def test_paste_back_in_the_graph_matches_python(size):
    tf = pytest.importorskip("tensorflow")
    from tfface.data.image_ops import edit_bytes

    image = noise(*size)
    png, change = encoded(image), np.random.default_rng(1).normal(0, 0.3, (32, 32, 3))
    for edit, most in ((lambda x: x, 0), (lambda x: tf.clip_by_value(x + change, -1, 1), 2)):
        function = tf.function(lambda x, edit=edit: edit_bytes(edit, x, 32), autograph=False)
        result = np.asarray(images.load_image(function(tf.constant([png]))[0].numpy()), int)
        face = images.to_array(image, 32)
        expected = np.asarray(images.paste_back(image, np.asarray(edit(face)), face), int)
        assert np.abs(result - expected).max() <= most
        if not most:
            np.testing.assert_array_equal(result, np.asarray(image))


@pytest.fixture(scope="module")
def decoded():
    """A function that decodes an encoded image in a graph."""
    tf = pytest.importorskip("tensorflow")
    from tfface.data.image_ops import decode

    function = tf.function(decode, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda data: function(tf.constant(data)).numpy().astype(int)


def exif(orientation, big=False, more=()):
    """EXIF data as written by cameras, in either byte order."""
    order = ">" if big else "<"
    entries = [(0x010F, 2, 1, 0), *more, (0x0112, 3, 1, orientation)]
    packed = b"".join(
        struct.pack(f"{order}HHI", *entry[:3]) + struct.pack(f"{order}HH", entry[3], 0)
        for entry in entries
    )
    head = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + packed + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))
def test_graph_decoding_turns_images_upright(decoded, kind, orientation):
    for big in (False, True):
        image = noise(24, 36).resize((48, 72))
        options = {"quality": 95} if kind == "JPEG" else {}
        lead = b"Exif\0\0" if kind == "JPEG" else b""
        file = io.BytesIO()
        image.save(file, kind, exif=lead + exif(orientation, big), **options)
        expected = np.asarray(images.load_image(file.getvalue()), int)
        found = decoded(file.getvalue())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2


def test_graph_decoding_survives_corrupt_exif_data(decoded):
    image, rng = gradient(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(exif(6, more=[(0x0100, 3, 1, 7)] * 3))
        for position in rng.integers(0, len(data), 4):
            data[position] = rng.integers(256)
        data = bytes(data[: rng.integers(1, len(data) + 1)])
        file = io.BytesIO()
        image.save(file, "JPEG", exif=b"Exif\0\0" + data)
        assert decoded(file.getvalue()).shape in ((60, 40, 3), (40, 60, 3))


def transparent(mode):
    """An image with a transparent upper part over colours that are not white."""
    image = gradient()
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 40, 20))
    alpha.paste(100, (0, 20, 40, 30))
    if mode in ("RGBA", "LA"):
        converted = image.convert(mode)
        converted.putalpha(alpha)
        return converted, {}
    if mode == "P":
        return image.quantize(16), {"transparency": bytes([0, 128, *[255] * 14])}
    converted = image.convert(mode)
    return converted, {"transparency": converted.getpixel((3, 3))}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_graph_decoding_puts_transparent_parts_on_white(decoded, mode):
    image, options = transparent(mode)
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    expected = np.asarray(images.load_image(file.getvalue()), int)
    assert (expected == 255).any()
    assert np.abs(decoded(file.getvalue()) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["P", "1", "L", "CMYK"])
def test_graph_decoding_accepts_other_colour_modes(decoded, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    file = io.BytesIO()
    gradient().convert(mode).save(file, kind)
    expected = np.asarray(images.load_image(file.getvalue()), int)
    # Each library converts CMYK differently.
    assert np.abs(decoded(file.getvalue()) - expected).mean() <= (8 if mode == "CMYK" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_load_image_detects_the_format_from_the_content(tmp_path, kind, mode):
    file = tmp_path / "without_suffix"
    file.write_bytes(encoded(gradient().convert(mode), kind))
    for source in (file, str(file), file.read_bytes()):
        loaded = images.load_image(source)
        assert loaded.mode == "RGB" and loaded.size == (40, 60)


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA", "CMYK"])
def test_load_image_converts_colour_modes_to_rgb(mode):
    image = gradient().convert(mode)
    loaded = images.load_image(encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert loaded.mode == "RGB"
    error = np.abs(np.asarray(loaded, float).mean() - np.asarray(image.convert("RGB")).mean())
    assert error < 2


def test_load_image_scales_16_bits_and_fills_transparency():
    deep = Image.fromarray((np.asarray(gradient().convert("L")).astype(np.uint16)) * 257)
    loaded = np.asarray(images.load_image(encoded(deep)))
    np.testing.assert_allclose(loaded[..., 0], np.asarray(gradient().convert("L")), atol=1)
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert np.all(np.asarray(images.load_image(encoded(clear))) == 255)


def test_load_image_turns_images_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotate clockwise to display.
    loaded = images.load_image(encoded(gradient(), "PNG", exif=exif))
    upright = gradient().transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(upright))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_exif_data_does_not_make_an_image_unreadable(kind):
    image, rng = gradient(), np.random.default_rng(1)
    lead = b"Exif\0\0" if kind == "JPEG" else b""
    for _ in range(100):
        data = bytearray(exif(6, more=[(0x0100, 3, 1, 7)] * 3))
        for position in rng.integers(0, len(data), 4):
            data[position] = rng.integers(256)
        stored = encoded(image, kind, exif=lead + bytes(data[: rng.integers(1, len(data) + 1)]))
        assert images.load_image(stored).size in ((40, 60), (60, 40))
        assert Encoded.read(stored).image.size in ((40, 60), (60, 40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"not an image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not an image"),
        (encoded(gradient(), "JPEG")[:400], "cannot be read"),
        (encoded(gradient(), "JPEG")[:30], "cannot be read"),
        (encoded(gradient())[:200], "cannot be read"),
        (encoded(Image.new("RGB", (5000, 20))), "5000x20 is not the shape of a face image"),
        (encoded(Image.new("RGB", (100, 301))), "100x301 is not the shape"),
        (encoded(Image.new("RGB", (15, 20))), "at least 16 pixels"),
        (encoded(Image.new("1", (8000, 7000))), "8000x7000 is more than 50 megapixels"),
        (encoded(Image.new("1", (20000, 20000))), "more than 50 megapixels"),
    ],
)
def test_bad_images_are_reported_by_name(tmp_path, content, message):
    file = tmp_path / "face.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{file}: .*{message}|{file}: {message}"):
        images.load_image(file)
    with pytest.raises(UserError, match=f"^upload 3: .*{message}|^upload 3: {message}"):
        images.load_image(content, name="upload 3")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nobody.jpg: no such file"):
        images.load_image(tmp_path / "nobody.jpg")
    with pytest.raises(UserError, match=f"{tmp_path}: "):
        images.load_image(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        images.list_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no images"):
        images.list_images(tmp_path)


def test_list_images_returns_sorted_image_files_only(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp", "notes.txt", "._a.png", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    assert [path.name for path in images.list_images(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


def test_save_image_is_atomic(tmp_path, monkeypatch):
    image = gradient()
    for suffix in images.FORMATS:
        images.save_image(image, tmp_path / "new" / f"face{suffix}")
        assert images.load_image(tmp_path / "new" / f"face{suffix}").size == image.size
    saved = images.load_image(tmp_path / "new" / "face.png")
    np.testing.assert_array_equal(np.asarray(saved), np.asarray(image))
    with pytest.raises(UserError, match="face.txt: unknown image format.* .jpg"):
        images.save_image(image, tmp_path / "face.txt")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="late.png: cannot be written: No space left"):
        images.save_image(image, tmp_path / "late.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_grid_arranges_images_and_captions():
    dark = np.full((64, 64, 3), -1.0, np.float32)
    plain = images.grid([[dark, dark], [dark]])
    assert np.all(np.asarray(plain)[0] == 255)
    assert (np.asarray(plain) == 0).all(axis=-1).sum() == 3 * 64 * 64
    captioned = images.grid([[dark, gradient()]], ["contemptuous", "neutral"], ["one\nperson"])
    assert captioned.width > plain.width and captioned.height > 64 + 12


def test_images_module_does_not_import_tensorflow():
    code = "import sys, tfface.data.images; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
