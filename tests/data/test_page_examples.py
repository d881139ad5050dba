"""The example faces of `tfface.app` are those that the renderer draws."""

import numpy as np
import pytest
from PIL import Image

import tfface.web.examples as examples
from tfface.config import Data
from tfface.data.label_maps import load_label_map, to_labels
from tfface.data.synthetic import SyntheticFaces, render


@pytest.mark.usefixtures("eagerly")
def test_an_example_is_a_test_face_of_the_renderer():
    face = examples.faces()[2]
    source = SyntheticFaces(Data(name="synthetic", size=64))
    drawn = render(source.factors("test", int(face.stem[-2:]), 1), 64, ("image", "label_map"))
    image = np.asarray(Image.open(face).resize((64, 64), Image.Resampling.BOX), np.float32)
    assert np.abs(image / 127.5 - 1 - drawn["image"].numpy()[0]).mean() < 0.03
    labels = to_labels(load_label_map(examples.label_map_of(face)), 64)
    assert (labels == drawn["label_map"].numpy()[0]).mean() > 0.97
