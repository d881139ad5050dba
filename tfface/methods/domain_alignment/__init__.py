"""Attention-guided domain alignment (CVIU 2023): a face from a drawing in an exemplar's style.

`networks.py`: encoders, correspondence, generator, discriminator; `conditions.py`: label maps and
line drawings as channels; `losses.py`: the objective; `method.py`: data, phases, and the
combination of the networks; `serving.py`: signatures of an exported model. The alignment itself is
`tfface.layers.BlockAlignment`.
"""

from tfface.methods import exports

_MODULES = {
    "Correspondence": "tfface.methods.domain_alignment.networks",
    "Discriminator": "tfface.methods.domain_alignment.networks",
    "DomainAlignment": "tfface.methods.domain_alignment.method",
    "DomainAlignmentConfig": "tfface.methods.domain_alignment.config",
    "Encoder": "tfface.methods.domain_alignment.networks",
    "Generator": "tfface.methods.domain_alignment.networks",
}
__all__ = sorted(_MODULES)
__getattr__ = exports(__name__, _MODULES)
