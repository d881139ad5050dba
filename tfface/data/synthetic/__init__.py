"""Built-in faces: an endless, seeded set of rendered portraits with complete annotations.

A face is a dict of factors (`sample_factors`) that can be edited one by one (`with_expression`,
`with_attribute`, `with_factors`) and drawn (`render`) with TensorFlow operations, eagerly or in a
`tf.data` pipeline. The same seed gives the same face on every machine. Changing the expression
changes only pixels inside `moving_mask`, so an edited face can be compared with the ground truth.
"""

from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic.factors import (
    ATTRIBUTES,
    EXPRESSIONS,
    GROUPS,
    sample_factors,
    with_attribute,
    with_expression,
    with_factors,
)
from tfface.data.synthetic.render import FIELDS, moving_mask, render
from tfface.data.synthetic.source import SyntheticFaces

__all__ = [
    "ATTRIBUTES",
    "CLASSES_19",
    "EXPRESSIONS",
    "FIELDS",
    "GROUPS",
    "SyntheticFaces",
    "moving_mask",
    "render",
    "sample_factors",
    "with_attribute",
    "with_expression",
    "with_factors",
]
