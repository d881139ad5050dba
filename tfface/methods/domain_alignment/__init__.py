"""Attention-guided domain alignment (CVIU 2023): a face from a drawing in an exemplar's style.

`networks.py` encoders, correspondence, generator, discriminator; `conditions.py` what the networks
see of a label map or of lines; `losses.py` and `perceptual.py` the losses; `method.py` how they are
put together. The alignment itself is `tfface.layers.BlockAlignment`.
"""
