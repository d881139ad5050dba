"""Images side by side."""

import numpy as np
import pytest
from PIL import Image

import tfface
from tfface.data.label_maps import PALETTE
from tfface.errors import UserError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def plain(colour, size=96):
    return Image.new("RGB", (size, size), colour)


def boxes_of(sheet, colours):
    """Bounding boxes of the colours in a sheet: left, upper, right, lower."""
    pixels = np.asarray(sheet)
    boxes = []
    for colour in colours:
        y, x = np.nonzero((pixels == colour).all(-1))
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return boxes


def test_one_image_per_caption_is_a_row():
    (left, top, right, bottom), second = boxes_of(
        tfface.show({"a": plain(RED), "b": plain(BLUE)}), (RED, BLUE)
    )
    assert (right - left, bottom - top) == (96, 96)
    assert second[1] == top and second[0] > right


def test_several_images_per_caption_are_a_column():
    first, second = boxes_of(tfface.show({"a": [plain(RED), plain(BLUE)]}), (RED, BLUE))
    assert second[0] == first[0] and second[1] > first[3]


def test_rows_use_the_captions_of_the_first_row():
    rows = [{"a": None, "b": plain(RED)}, {"x": plain(BLUE), "y": None}]
    (red,), (blue,) = boxes_of(tfface.show(rows), (RED,)), boxes_of(tfface.show(rows), (BLUE,))
    assert blue[2] < red[0] and blue[1] > red[3]


def test_long_row_is_wrapped():
    images = {str(i): plain(RED) for i in range(3)} | {"last": plain(BLUE)}
    red, blue = boxes_of(tfface.show(images, across=2), (RED, BLUE))
    assert blue[0] > red[0] and blue[3] == red[3]
    assert tfface.show(images).height < tfface.show(images, across=2).height


def test_arrays_tensors_and_label_maps_are_enlarged():
    tf = pytest.importorskip("tensorflow")
    red = np.full((2, 32, 32, 3), -1.0, np.float32)
    red[..., 0] = 1.0
    hair = np.full((2, 32, 32), 13, np.int32)
    for first in (red, tf.constant(red), list(red)):
        boxes = boxes_of(tfface.show({"face": first, "map": hair}), (RED, PALETTE[13]))
        assert [b[2] - b[0] for b in boxes] == [96, 96]
        assert boxes[0][1] == boxes[1][1] and boxes[0][3] == boxes[1][3] > 96 + 96
    one = tfface.show({"face": red[0], "map": hair[0]})
    assert [b[3] - b[1] for b in boxes_of(one, (RED, PALETTE[13]))] == [96, 96]


def test_large_images_keep_their_size():
    [(left, _, right, _)] = boxes_of(tfface.show({"face": plain(RED, 200)}), [RED])
    assert right - left == 200


def test_non_images_are_rejected():
    with pytest.raises(UserError, match=r"a is float64 \[4, 4\]: expected an image"):
        tfface.show({"a": [np.zeros((4, 4))]})
