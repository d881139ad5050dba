"""SARGAN: spatial attention for expression manipulation (Akram and Khan, IEEE TCSVT 2023).

`networks.py`: the generator with its spatial-attention residual block; `losses.py`: the objective,
WGAN-GP, classification and cycle losses; `method.py`: data, phases and edits; `serving.py`:
signatures of an exported model; `convert.py`: layer names of the authors' checkpoints.
"""

from tfface.methods import exports

_MODULES = {
    "Discriminator": "tfface.layers.discriminator",
    "Generator": "tfface.methods.sargan.networks",
    "Sargan": "tfface.methods.sargan.method",
    "SarganConfig": "tfface.methods.sargan.config",
    "attention_maps": "tfface.methods.sargan.networks",
}
__all__ = sorted(_MODULES)
__getattr__ = exports(__name__, _MODULES)
