"""ELEGANT: exchanging latent encodings with GAN (Xiao, Hong and Ma, ECCV 2018, arXiv 1803.10562).

`networks.py` encoder, decoder of residual images, discriminator; `losses.py` adversarial and
reconstruction losses; `method.py` the exchange of latent parts; `convert.py` reads the authors'
checkpoints.
"""
