"""Label maps and line drawings: files, graphs, colours and invalid files."""

import functools
import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfface.config import Data
from tfface.data import label_map_ops as graph
from tfface.data.images import load_image, to_array
from tfface.data.label_maps import (
    CLASSES_19,
    FLIPPED,
    LINE,
    PALETTE,
    colour,
    load_label_map,
    save_colours,
    save_label_map,
    to_labels,
)
from tfface.data.lines import OUTLINED, draw_edges, draw_lines
from tfface.data.synthetic import SyntheticFaces, render
from tfface.errors import UserError
from tfface.prepare import main

FACE = graph.example_labels(64).numpy()[0]


def encoded(values, kind="PNG", mode=None, **options):
    out = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    (image.convert(mode) if mode else image).save(out, kind, **options)
    return out.getvalue()


@functools.cache
def in_graph(lines=False):
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda png: graph.decode_labels(png, lines), input_signature=signature)


@functools.cache
def squares(size, lines=False):
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(
        lambda png: graph.to_label_squares(png, size, lines), input_signature=signature
    )


def both(png, lines=False):
    """Reads a PNG with Pillow and with TensorFlow, which must agree."""
    labels = load_label_map(png, lines)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(in_graph(lines)(png), labels)
    return labels


def test_palette_and_flipped_codes():
    assert PALETTE.shape == (19, 3) and PALETTE.dtype == np.uint8
    assert len({tuple(c) for c in colour(np.arange(20)).tolist()}) == 20
    assert PALETTE[CLASSES_19.index("skin")].tolist() == [204, 0, 0]
    assert PALETTE[CLASSES_19.index("cloth")].tolist() == [0, 204, 0]
    assert FLIPPED.dtype == np.int32 and FLIPPED[FLIPPED].tolist() == list(range(20))
    for code, name in enumerate(CLASSES_19):
        twin = {"l": "r", "r": "l"}.get(name[0], "") + name[1:]
        expected = CLASSES_19.index(twin) if twin in CLASSES_19 else code
        assert FLIPPED[code] == expected
    assert FLIPPED[LINE] == LINE


@st.composite
def maps(draw):
    """A map of random codes, whether it is a (sparse) line drawing, and an output size."""
    lines = draw(st.booleans())
    height, width = draw(st.integers(16, 40)), draw(st.integers(16, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, 20 if lines else 19, (height, width), np.uint8)
    if lines:
        labels[rng.random(labels.shape) < 0.7] = 0
        labels[:, : width // 2] = 0
    return labels, lines, draw(st.sampled_from([16, 23, 32, 64]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(maps())
def test_label_maps_from_file_and_graph_agree(drawn):
    labels, lines, size = drawn
    sixteen = Image.fromarray(labels.astype(np.uint16))
    images = [labels, sixteen, colour(labels), Image.fromarray(colour(labels)).convert("RGBA")]
    pngs = [encoded(image) for image in images]
    pngs.append(encoded(Image.fromarray(colour(labels)).quantize(32)))
    for png in pngs:
        np.testing.assert_array_equal(both(png, lines), labels)
    expected = to_labels(labels, size)
    assert expected.dtype == np.int32 and expected.shape == (size, size)
    np.testing.assert_array_equal(squares(size, lines)(pngs), [expected] * len(pngs))


def test_to_labels_takes_the_nearest_pixels():
    labels = np.arange(20 * 16, dtype=np.int32).reshape(20, 16)
    np.testing.assert_array_equal(to_labels(labels, 16), labels[2:18])
    np.testing.assert_array_equal(to_labels(labels, 8), labels[3:18:2, 1::2])
    np.testing.assert_array_equal(to_labels(labels, 32), labels[2:18].repeat(2, 0).repeat(2, 1))
    wide = to_labels(labels.T, 5)
    nearest = [1, 4, 8, 11, 14]
    np.testing.assert_array_equal(wide, labels.T[:, 2:18][np.ix_(nearest, nearest)])


NOISE = np.random.default_rng(0).integers(0, 19, (64, 64), np.uint8)


def with_pixel(values, pixel):
    """A copy with another pixel in row 2, column 3."""
    values = np.array(values)
    values[2, 3] = pixel
    return values


CLEAR = with_pixel(np.dstack([colour(FACE), np.full((64, 64), 255, np.uint8)]), (0, 0, 0, 0))
PART = np.where(FACE == 1, 255, 0).astype(np.uint8)
THIN = draw_lines(FACE)
REFUSED = {
    "empty": (b"", "not a PNG", "not a PNG"),
    "text": (b"hello", "not a PNG", "not a PNG"),
    "jpeg": (encoded(colour(FACE), "JPEG"), "not a PNG.*do not keep values exactly", "not a PNG"),
    "truncated": (encoded(NOISE)[:1500], "cannot be read as an image", "PNG"),
    "header": (encoded(NOISE)[:30], "not a PNG", "PNG"),
    "huge": (encoded(Image.new("L", (8000, 7000))), "more than 50 megapixels", "too large"),
    "small": (encoded(NOISE[:15]), "at least 16 pixels", "too small"),
    "long": (encoded(NOISE[:16]), "at most 3 times", "too long"),
    "id": (
        encoded(with_pixel(NOISE, 19)),
        r"has the value 19 \(first at row 2, column 3\); expected 0 to 18",
        r"value.*\[19\].*expected 0 to",
    ),
    "16-bit id": (encoded(with_pixel(NOISE.astype(np.uint16), 700)), "value 700", r"\[700\]"),
    "part": (encoded(PART), "mask of a single part.*tfface.prepare label_maps", "255"),
    "bilevel part": (encoded(PART, mode="1"), "mask of a single part", "255"),
    "coloured part": (encoded(PART, mode="RGB"), "mask of a single part", "colour"),
    "colour": (
        encoded(with_pixel(colour(FACE), (204, 0, 1))),
        r"colour \(204, 0, 1\) \(first at row 2, column 3\)",
        r"(?s)colour.*\[204 0 1\].*\[2 3\]",
    ),
    "white": (encoded(with_pixel(colour(FACE), 255)), r"colour \(255, 255, 255\)", "colour"),
    "ids in a palette": (encoded(FACE.astype(np.uint8), mode="P"), "colour", "colour"),
    "clear": (encoded(CLEAR), "partly transparent", "partly transparent"),
    "clear palette": (
        encoded(Image.fromarray(colour(FACE)).quantize(32), transparency=bytes([0] * 32)),
        "partly transparent",
        "partly transparent",
    ),
    "grey with alpha": (encoded(NOISE, mode="LA"), "partly transparent", "partly transparent"),
    "map for lines": (
        encoded(NOISE),
        "expected a line drawing.*`python -m tfface.prepare lines`",
        "expected a line drawing",
    ),
    "line id": (encoded(with_pixel(THIN, 20)), "value 20 .*expected 0 to 19", r"\[20\]"),
    "line colour": (encoded(with_pixel(colour(THIN), 9)), "classes and white", "colour"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_label_map_files_are_rejected(kind, tmp_path):
    png, message, in_short = REFUSED[kind]
    lines = "line" in kind
    file = tmp_path / "map.png"
    file.write_bytes(png)
    with pytest.raises(UserError, match=f"^{file}: .*{message}|^{file}: {message}"):
        load_label_map(file, lines)
    with pytest.raises(UserError, match="^upload 3: "):
        load_label_map(png, lines, name="upload 3")
    with pytest.raises(tf.errors.InvalidArgumentError, match=in_short):
        in_graph(lines)(png)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="nobody.png: no such file"):
        load_label_map(tmp_path / "nobody.png")


def test_saved_label_maps_are_read_back_exactly(tmp_path):
    save_label_map(FACE, tmp_path / "new" / "map.png")
    with Image.open(tmp_path / "new" / "map.png") as saved:
        assert saved.mode == "L"
    np.testing.assert_array_equal(load_label_map(str(tmp_path / "new" / "map.png")), FACE)
    save_colours(FACE, tmp_path / "seen.png")
    np.testing.assert_array_equal(load_label_map(tmp_path / "seen.png"), FACE)
    with pytest.raises(UserError, match="map.jpg: expected a name that ends in .png"):
        save_label_map(FACE, tmp_path / "map.jpg")


def test_check_labels_rejects_values_out_of_range():
    labels = tf.constant([[[0, 18], [19, 3]]])
    np.testing.assert_array_equal(graph.check_labels(labels, lines=True), labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)value.*19.*expected 0 to"):
        graph.check_labels(labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)value.*-1.*expected"):
        graph.check_labels(labels - 1)


def test_colour_labels_matches_the_palette():
    codes = np.arange(20)
    coloured = graph.colour_labels(tf.constant(codes[None], tf.int32)).numpy()
    assert coloured.dtype == np.float32
    np.testing.assert_allclose((coloured[0] + 1) * 127.5, colour(codes), atol=1e-4)


def test_example_labels_survive_encoding():
    for size in (32, 64, 256):
        labels, lines = graph.example_labels(size), graph.example_labels(size, lines=True)
        assert labels.shape == (1, size, size) and labels.dtype == tf.int32 == lines.dtype
        assert len(np.unique(labels)) == 14
        for example, is_drawing in ((labels, False), (lines, True)):
            png = graph.encode_labels(example)
            np.testing.assert_array_equal(squares(size, is_drawing)(png), example)


def test_draw_lines_outlines_parts_and_finds_edges_outside_the_face():
    names = [CLASSES_19[code] for code in np.unique(THIN) if code]
    assert THIN.dtype == np.uint8 and set(names) == set(OUTLINED) & {
        CLASSES_19[i] for i in FACE.flat
    }
    for y, x in zip(*np.nonzero(THIN), strict=True):
        around = FACE[max(y - 1, 0) : y + 2, x].tolist() + FACE[y, max(x - 1, 0) : x + 2].tolist()
        assert THIN[y, x] == FACE[y, x] and len(set(around)) > 1
    assert THIN[FACE == CLASSES_19.index("skin")].mean() < 0.35
    rng = np.random.default_rng(0)
    photo = np.repeat(np.repeat(rng.uniform(-1, 1, (8, 8, 3)), 8, 0), 8, 1).astype(np.float32)
    lines = draw_lines(FACE, photo)
    other = lines == LINE
    np.testing.assert_array_equal(np.where(other, 0, lines), THIN)
    inner = np.isin(FACE, [CLASSES_19.index(n) for n in OUTLINED if n != "hair"])
    assert other.sum() > 50 and not (other & inner).any()
    assert (other & (FACE == CLASSES_19.index("hair"))).any()
    assert (other & (FACE == 0)).any()


def test_prepare_lines(tmp_path, capsys):
    big = FACE.repeat(4, 0).repeat(4, 1)
    save_label_map(big, tmp_path / "map.png")
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((512, 512), 0)
    noise.save(tmp_path / "face.png")
    out = tmp_path / "lines.png"
    words = ["lines", str(tmp_path / "map.png"), "--out", str(out)]
    assert main(words) == 0
    np.testing.assert_array_equal(load_label_map(out, lines=True), draw_lines(big))
    assert main([*words, "--photo", str(tmp_path / "face.png"), "--size", "64"]) == 0
    photo = to_array(load_image(tmp_path / "face.png"), 64)
    lines = both(out.read_bytes(), lines=True)
    np.testing.assert_array_equal(lines, draw_lines(FACE, photo))
    assert (lines == LINE).any()
    alone = ["lines", "--photo", str(tmp_path / "face.png"), "--out", str(out)]
    assert main([*alone, "--size", "64"]) == 0
    edges = load_label_map(out, lines=True)
    np.testing.assert_array_equal(edges, draw_edges(photo))
    assert set(np.unique(edges)) == {0, LINE} and (edges[lines == LINE] == LINE).all()
    assert main(["lines", "--out", str(out)]) == 2
    assert "expected a label map, or a photograph" in capsys.readouterr().err
    noise.crop((0, 0, 512, 300)).save(tmp_path / "face.png")
    assert main([*words, "--photo", str(tmp_path / "face.png")]) == 2
    assert "512x300, but" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "lines.jpg")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_label_maps_module_does_not_import_tensorflow():
    code = (
        "import sys, tfface.data.label_maps, tfface.data.lines\n"
        "sys.exit('tensorflow' in sys.modules or 'skimage' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", [32, 64, 128])
def test_line_drawings_are_distinguished_from_label_maps(size):
    faces = SyntheticFaces(Data()).factors("test", 0, 24)
    for labels in render(faces, size, ("label_map",))["label_map"].numpy():
        with pytest.raises(UserError, match="expected a line drawing"):
            load_label_map(encoded(labels.astype(np.uint8)), lines=True)
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected a line drawing"):
            in_graph(True)(encoded(labels.astype(np.uint8)))
        drawn = draw_lines(labels)
        assert (both(encoded(drawn), True) == drawn).all()
