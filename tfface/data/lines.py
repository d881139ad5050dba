"""Line drawings of faces, the input of the edge condition of aligned synthesis.

A line drawing is an integer map of codes: 0 for nothing, 1 to 18 for the outline of that face part,
and `tfface.data.label_maps.LINE` for any other line. It can be drawn and corrected by hand in the
colours of the parts.
"""

from __future__ import annotations

import numpy as np

from tfface.data.label_maps import CLASSES_19, LINE

OUTLINED = (
    "skin", "l_brow", "r_brow", "l_eye", "r_eye", "l_ear", "r_ear", "nose", "u_lip", "mouth",
    "l_lip", "eye_g", "hair",
)  # fmt: skip
"""The parts with an outline, in the order of CoCosNet's data/celebahqedge_dataset.py."""

_CODES = [CLASSES_19.index(name) for name in OUTLINED]
_INNER = [code for code in _CODES if CLASSES_19[code] != "hair"]
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def draw_edges(image: np.ndarray) -> np.ndarray:
    """Draws the edges of a photograph, without a label map.

    Args:
        image: The photograph, float32 [H,W,3] in [-1,1].

    Returns:
        uint8 [H,W]: LINE where Canny's operator (sigma 1) finds an edge, otherwise 0.
    """
    from skimage.feature import canny

    # Floats in [0,1]: some versions of scikit-image find no edges in integers.
    edges = canny((np.asarray(image, np.float32) + 1) / 2 @ _GREY, sigma=1.0)
    return np.where(edges, LINE, 0).astype(np.uint8)


def draw_lines(label_map: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
    """Draws the outlines of face parts and, outside the inner face, the edges of a photograph.

    Draw at the input size of the network: lines are one pixel wide at any size.

    Args:
        label_map: Class ids, integers [H,W].
        image: The photograph, float32 [H,W,3] in [-1,1]. None: outlines only.

    Returns:
        uint8 [H,W]: a part's code where one of its pixels has a 4-neighbour of another class; LINE
        where `draw_edges` has an edge in hair, clothes or background.
    """
    label_map = np.asarray(label_map)
    padded = np.pad(label_map, 1, mode="edge")
    middle = slice(1, -1)
    neighbours = [padded[:-2, middle], padded[2:, middle], padded[middle, :-2], padded[middle, 2:]]
    edge = np.any([other != label_map for other in neighbours], axis=0)
    lines = np.where(edge & np.isin(label_map, _CODES), label_map, 0).astype(np.uint8)
    if image is not None:
        edges = draw_edges(image) > 0
        lines[edges & ~np.isin(label_map, _INNER) & (lines == 0)] = LINE
    return lines
