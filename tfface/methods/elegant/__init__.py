"""ELEGANT: exchanging latent encodings with GAN (Xiao, Hong and Ma, ECCV 2018, arXiv 1803.10562).

`networks.py`: encoder, decoder of residual images, discriminators; `losses.py`: the objective;
`method.py`: the exchange of latent parts; `serving.py`: signatures of an exported model;
`convert.py`: layer names of the authors' checkpoints.
"""

from tfface.methods import exports

_MODULES = {
    "Decoder": "tfface.methods.elegant.networks",
    "Discriminator": "tfface.methods.elegant.networks",
    "Elegant": "tfface.methods.elegant.method",
    "ElegantConfig": "tfface.methods.elegant.config",
    "Encoder": "tfface.methods.elegant.networks",
    "MultitaskDiscriminator": "tfface.methods.elegant.networks",
}
__all__ = sorted(_MODULES)
__getattr__ = exports(__name__, _MODULES)
