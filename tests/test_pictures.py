"""Pictures between files and arrays."""

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfface.data import pictures
from tfface.errors import UserError


def gradient(width=40, height=60):
    """A smooth picture that no flip or rotation leaves as it is."""
    y, x = np.mgrid[:height, :width]
    values = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], -1)
    return Image.fromarray(values.astype(np.uint8))


def encoded(picture, kind="PNG", **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def test_arrays_are_the_central_square_in_the_range_of_the_networks():
    assert pictures.face_box(178, 218) == (0, 20, 178, 198)
    assert pictures.face_box(30, 21) == (4, 0, 25, 21)
    array = pictures.to_array(gradient(40, 60), 40)
    assert array.shape == (40, 40, 3) and array.dtype == np.float32
    square = np.asarray(gradient(40, 60))[10:50]
    np.testing.assert_allclose(array, square / 127.5 - 1, atol=1e-6)
    white = Image.new("RGB", (20, 20), "white")
    assert np.all(pictures.to_array(white, 32) == 1)


def test_resizing_is_that_of_tensorflow():
    """The exported graphs resize with tf.image.resize; Pillow rounds to 8 bits in between."""
    tf = pytest.importorskip("tensorflow")
    noise = np.random.default_rng(0).integers(0, 256, (178, 178, 3), np.uint8)
    ours = pictures.to_array(Image.fromarray(np.pad(noise, ((20, 20), (0, 0), (0, 0)))), 64)
    theirs = tf.image.resize(noise, (64, 64), antialias=True).numpy() / 127.5 - 1
    assert np.abs(ours - theirs).max() <= 1.01 / 127.5


def test_to_picture_inverts_and_clips():
    picture = gradient(40, 40)
    assert pictures.to_picture(pictures.to_array(picture, 40)) == picture
    clipped = np.asarray(pictures.to_picture(np.array([[[-2.0, 2.0, 0.0]]])))
    assert clipped.tolist() == [[[0, 255, 128]]]


def noise(width, height):
    """A picture of nothing but detail."""
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def test_paste_back_changes_the_face_box_only():
    picture = gradient(40, 60)
    before, given = picture.copy(), pictures.to_array(picture, 16)
    result = pictures.paste_back(picture, given - 2, given)
    assert picture == before and result.size == picture.size
    values, original = np.asarray(result), np.asarray(picture)
    assert np.all(values[10:50] == 0)
    np.testing.assert_array_equal(values[:10], original[:10])
    np.testing.assert_array_equal(values[50:], original[50:])


# Larger than the networks' pictures, smaller, as large; odd; not square.
SIZES = (512, 512), (333, 217), (101, 180), (32, 32), (31, 47), (17, 16)


@pytest.mark.parametrize("size", SIZES)
def test_an_edit_that_changes_nothing_gives_the_same_pixels(size):
    picture = noise(*size)
    given = pictures.to_array(picture, 32)
    same = pictures.paste_back(picture, given.copy(), given)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(picture))


def test_an_edit_keeps_the_detail_of_its_picture():
    """A large picture, made brighter by 20 levels in the middle, is itself but brighter."""
    detail = Image.fromarray(np.asarray(noise(320, 480)) // 2 + 50)
    given = pictures.to_array(detail, 32)
    edited = given.copy()
    edited[8:24, 8:24] += 20 / 127.5
    change = np.asarray(pictures.paste_back(detail, edited, given), int) - np.asarray(detail, int)
    square = change[80:400]
    assert np.all(square[110:210, 110:210] == 20)
    assert np.all(square[:50] == 0) and np.all(square[:, 270:] == 0)
    assert np.abs(np.diff(square[160, :, 0])).max() <= 3  # Ten pixels to one: no edges.


@pytest.mark.parametrize("size", SIZES)
def test_exported_graphs_paste_as_python_does(size):
    tf = pytest.importorskip("tensorflow")
    from tfface.data.image_ops import edit_bytes

    picture = noise(*size)
    png, change = encoded(picture), np.random.default_rng(1).normal(0, 0.3, (32, 32, 3))
    for edit, most in ((lambda x: x, 0), (lambda x: tf.clip_by_value(x + change, -1, 1), 2)):
        function = tf.function(lambda x, edit=edit: edit_bytes(edit, x, 32), autograph=False)
        made = np.asarray(pictures.load_picture(function(tf.constant([png]))[0].numpy()), int)
        given = pictures.to_array(picture, 32)
        expected = np.asarray(pictures.paste_back(picture, np.asarray(edit(given)), given), int)
        assert np.abs(made - expected).max() <= most
        if not most:
            np.testing.assert_array_equal(made, np.asarray(picture))


@pytest.fixture(scope="module")
def decoded():
    """What an exported graph makes of an encoded picture."""
    tf = pytest.importorskip("tensorflow")
    from tfface.data.image_ops import decode

    function = tf.function(decode, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda data: function(tf.constant(data)).numpy().astype(int)


def exif(orientation, big=False, more=()):
    """EXIF data as cameras write them, in either order of bytes."""
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
def test_exported_graphs_turn_pictures_upright(decoded, kind, orientation):
    for big in (False, True):
        picture = noise(24, 36).resize((48, 72))
        options = {"quality": 95} if kind == "JPEG" else {}
        lead = b"Exif\0\0" if kind == "JPEG" else b""
        file = io.BytesIO()
        picture.save(file, kind, exif=lead + exif(orientation, big), **options)
        expected = np.asarray(pictures.load_picture(file.getvalue()), int)
        found = decoded(file.getvalue())
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2


def test_exif_data_that_lead_nowhere(decoded):
    picture, rng = gradient(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(exif(6, more=[(0x0100, 3, 1, 7)] * 3))
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        data = bytes(data[: rng.integers(1, len(data) + 1)])
        file = io.BytesIO()
        picture.save(file, "JPEG", exif=b"Exif\0\0" + data)
        assert decoded(file.getvalue()).shape in ((60, 40, 3), (40, 60, 3))


def transparent(mode):
    """A picture whose upper half is transparent, over colours that are not white."""
    picture = gradient()
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 40, 20))
    alpha.paste(100, (0, 20, 40, 30))
    if mode in ("RGBA", "LA"):
        made = picture.convert(mode)
        made.putalpha(alpha)
        return made, {}
    if mode == "P":
        made = picture.quantize(16)
        return made, {"transparency": bytes([0, 128, *[255] * 14])}
    made = picture.convert(mode)
    return made, {"transparency": made.getpixel((3, 3))}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_exported_graphs_put_transparent_parts_on_white(decoded, mode):
    picture, options = transparent(mode)
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    expected = np.asarray(pictures.load_picture(file.getvalue()), int)
    assert (expected == 255).any()
    assert np.abs(decoded(file.getvalue()) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["P", "1", "L", "CMYK"])
def test_exported_graphs_take_other_colours(decoded, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    file = io.BytesIO()
    gradient().convert(mode).save(file, kind)
    expected = np.asarray(pictures.load_picture(file.getvalue()), int)
    # CMYK: each library has its own conversion.
    assert np.abs(decoded(file.getvalue()) - expected).mean() <= (8 if mode == "CMYK" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_kinds_of_files(tmp_path, kind, mode):
    file = tmp_path / "without_suffix"
    file.write_bytes(encoded(gradient().convert(mode), kind))
    for source in (file, str(file), file.read_bytes()):
        loaded = pictures.load_picture(source)
        assert loaded.mode == "RGB" and loaded.size == (40, 60)


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA", "CMYK"])
def test_kinds_of_colours(mode):
    picture = gradient().convert(mode)
    loaded = pictures.load_picture(encoded(picture, "JPEG" if mode == "CMYK" else "PNG"))
    assert loaded.mode == "RGB"
    off = np.abs(np.asarray(loaded, float).mean() - np.asarray(picture.convert("RGB")).mean())
    assert off < 2


def test_deep_and_transparent_pictures():
    deep = Image.fromarray((np.asarray(gradient().convert("L")).astype(np.uint16)) * 257)
    loaded = np.asarray(pictures.load_picture(encoded(deep)))
    np.testing.assert_allclose(loaded[..., 0], np.asarray(gradient().convert("L")), atol=1)
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert np.all(np.asarray(pictures.load_picture(encoded(clear))) == 255)


def test_pictures_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: turn clockwise to view
    loaded = pictures.load_picture(encoded(gradient(), "PNG", exif=exif))
    upright = gradient().transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(upright))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"not a picture at all", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not a picture"),
        (encoded(gradient(), "JPEG")[:400], "cannot be read"),
        (encoded(gradient(), "JPEG")[:30], "cannot be read"),
        (encoded(gradient())[:200], "cannot be read"),
        (encoded(Image.new("RGB", (5000, 20))), "5000x20 is not the shape of a face picture"),
        (encoded(Image.new("RGB", (100, 301))), "100x301 is not the shape"),
        (encoded(Image.new("RGB", (15, 20))), "at least 16 pixels"),
        (encoded(Image.new("1", (8000, 7000))), "8000x7000 is more than 50 megapixels"),
        (encoded(Image.new("1", (20000, 20000))), "more than 50 megapixels"),
    ],
)
def test_bad_pictures_are_named(tmp_path, content, message):
    file = tmp_path / "face.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{file}: .*{message}|{file}: {message}"):
        pictures.load_picture(file)
    with pytest.raises(UserError, match=f"^upload 3: .*{message}|^upload 3: {message}"):
        pictures.load_picture(content, name="upload 3")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nobody.jpg: no such file"):
        pictures.load_picture(tmp_path / "nobody.jpg")
    with pytest.raises(UserError, match=f"{tmp_path}: "):
        pictures.load_picture(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        pictures.list_pictures(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no pictures"):
        pictures.list_pictures(tmp_path)


def test_list_pictures_is_sorted_and_takes_pictures_only(tmp_path):
    for name in ("b.JPG", "a.png", "c.webp", "notes.txt", "._a.png", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    assert [path.name for path in pictures.list_pictures(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


def test_saved_pictures_are_whole_or_absent(tmp_path, monkeypatch):
    picture = gradient()
    for suffix in pictures.FORMATS:
        pictures.save_picture(picture, tmp_path / "new" / f"face{suffix}")
        assert pictures.load_picture(tmp_path / "new" / f"face{suffix}").size == picture.size
    saved = pictures.load_picture(tmp_path / "new" / "face.png")
    np.testing.assert_array_equal(np.asarray(saved), np.asarray(picture))
    with pytest.raises(UserError, match="face.txt: unknown kind.*expected one of .jpg"):
        pictures.save_picture(picture, tmp_path / "face.txt")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="late.png: cannot be written: No space left"):
        pictures.save_picture(picture, tmp_path / "late.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_grid_places_pictures_and_captions():
    dark = np.full((64, 64, 3), -1.0, np.float32)
    plain = pictures.grid([[dark, dark], [dark]])
    assert np.all(np.asarray(plain)[0] == 255)
    assert (np.asarray(plain) == 0).all(axis=-1).sum() == 3 * 64 * 64
    captioned = pictures.grid([[dark, gradient()]], ["contemptuous", "neutral"], ["one\nperson"])
    assert captioned.width > plain.width and captioned.height > 64 + 12


def test_clients_need_no_tensorflow():
    code = "import sys, tfface.data.pictures; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
