"""Semantic segmentation with hierarchical GANs for expressions (Bodur et al., arXiv 2112.04603).

`segmenters.py` BiSeNet and U-Net; `networks.py` global and local generators and the network that
fuses them; `masks.py` soft masks of facial regions from the segmentation; `losses.py` and
`method.py` how they are trained together.
"""
