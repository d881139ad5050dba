"""Mask guided diverse face image synthesis (Sun et al., Frontiers of Computer Science 2022).

`networks.py`: style encoder, style decoder, generator, discriminator; `losses.py`: the objective;
`method.py`: data, phases and styles; `serving.py`: signatures of an exported model.
"""

from tfface.methods import exports

_MODULES = {
    "Generator": "tfface.methods.mask_guided.networks",
    "MaskGuided": "tfface.methods.mask_guided.method",
    "MaskGuidedConfig": "tfface.methods.mask_guided.config",
    "ResidualEncoder": "tfface.methods.mask_guided.networks",
    "StyleEncoder": "tfface.methods.mask_guided.networks",
}
__all__ = sorted(_MODULES)
__getattr__ = exports(__name__, _MODULES)
