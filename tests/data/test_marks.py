"""Statements in image files that they were generated or edited."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfface.data.images import read_mark, save_image
from tfface.data.marks import EDITED, GENERATED, Mark
from tfface.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@settings(deadline=None)
@given(
    st.sampled_from([EDITED, GENERATED]),
    # XML 1.0 has no control characters; attributes turn line breaks into spaces.
    *[st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)] * 3,
)
def test_xmp_can_be_read_again(source, model, version, tool):
    mark = Mark(source, model, version, tool)
    assert Mark.from_xmp(mark.xmp()) == mark


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_saved_image_has_the_mark_and_the_pixels(tmp_path, suffix):
    mark = Mark(EDITED, "sargan/faces64", "step 3")
    for name, given_mark in (("marked", mark), ("plain", None)):
        save_image(Image.fromarray(PIXELS), tmp_path / f"{name}.{suffix}", given_mark)
    marked, plain = (tmp_path / f"{name}.{suffix}" for name in ("marked", "plain"))
    assert read_mark(marked) == mark
    assert read_mark(plain) is None
    np.testing.assert_array_equal(Image.open(marked), Image.open(plain))


def test_a_format_without_metadata_is_an_error(tmp_path):
    with pytest.raises(UserError, match="BMP"):
        save_image(Image.fromarray(PIXELS), tmp_path / "face.bmp", Mark(EDITED))
    assert not list(tmp_path.iterdir())


def test_pngs_are_marked_in_a_graph(tmp_path):
    import tensorflow as tf

    from tfface.data.image_ops import mark_pngs

    mark = Mark(GENERATED, "mask_guided/faces64", "step 5")
    encoded = [tf.io.encode_png(x).numpy() for x in (PIXELS, 255 - PIXELS[:, :17])]
    marked = tf.function(lambda x: mark_pngs(x, mark))(tf.constant(encoded)).numpy()
    for before, after in zip(encoded, marked, strict=True):
        (tmp_path / "face.png").write_bytes(after)
        assert read_mark(tmp_path / "face.png") == mark
        np.testing.assert_array_equal(Image.open(io.BytesIO(after)), Image.open(io.BytesIO(before)))


def test_marks_of_other_software_are_read(tmp_path):
    packet = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><e:DigitalSourceType>
        http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture
        </e:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"""
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", xmp=packet.encode())
    assert read_mark(tmp_path / "photo.jpg") == Mark("digitalCapture", tool="")


def test_damaged_metadata_is_an_error_that_names_the_file(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg", xmp=b"<not XML")
    with pytest.raises(UserError, match=r"photo\.jpg.*XMP"):
        read_mark(tmp_path / "photo.jpg")
