"""Built-in faces: an endless, seeded set of drawn portraits with all that is true of them.

A face is a dict of factors (`sample_factors`) that can be edited one by one (`with_expression`,
`with_attribute`, `with_factors`) and drawn (`render`) with TensorFlow operations, alone or inside a
`tf.data` pipeline. The same seed is the same face on every machine. Changing the expression
changes pixels inside `moving_mask` only, so that an edited face can be compared with the true one.
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
