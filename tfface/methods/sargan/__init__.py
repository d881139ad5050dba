"""SARGAN: spatial attention for expression manipulation (Akram and Khan, IEEE TCSVT 2023).

`networks.py` the generator with its spatial-attention residual block, and the discriminator;
`losses.py` WGAN-GP, classification and cycle losses; `method.py` how they are put together;
`convert.py` reads the authors' checkpoints.
"""
