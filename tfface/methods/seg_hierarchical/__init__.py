"""Semantic segmentation with hierarchical GANs for expressions (Bodur et al., arXiv 2112.04603).

`segmenters.py`: BiSeNet and U-Net; `networks.py`: global and local generators and the fusion
network; `masks.py`: soft masks of facial regions from the segmentation; `losses.py`: the objective;
`method.py`, `streams.py`: joint training and its data; `serving.py`: signatures of an exported
model.
"""

from tfface.methods import exports

_MODULES = {
    "BiSeNet": "tfface.methods.seg_hierarchical.segmenters",
    "Combiner": "tfface.methods.seg_hierarchical.networks",
    "Discriminator": "tfface.layers.discriminator",
    "GlobalGenerator": "tfface.methods.seg_hierarchical.networks",
    "LocalGenerator": "tfface.methods.seg_hierarchical.networks",
    "SegHierarchical": "tfface.methods.seg_hierarchical.method",
    "SegHierarchicalConfig": "tfface.methods.seg_hierarchical.config",
    "UNet": "tfface.methods.seg_hierarchical.segmenters",
}
__all__ = sorted(_MODULES)
__getattr__ = exports(__name__, _MODULES)
