"""Discriminators of methods that edit expressions."""

from __future__ import annotations

from tfface.config import DiscriminatorOptions
from tfface.layers.discriminator import Discriminator
from tfface.layers.network import Network


def expression_discriminator(
    options: DiscriminatorOptions,
    size: int,
    classes: int,
    adversarial: str,
    name: str = "discriminator",
) -> Network:
    """A new discriminator.

    Args:
        options: Its kind and widths.
        size: Side of the images.
        classes: Number of expressions.
        adversarial: Kind of the adversarial loss; only "wgan-gp" needs a realness map.
        name: Name of the network.

    Raises:
        UserError: The weights of a pretrained network are missing.
    """
    if options.kind == "projected":
        from tfface.layers.projected import ProjectedDiscriminator

        return ProjectedDiscriminator(size, classes, options.width, name=name)
    realness = adversarial == "wgan-gp"
    return Discriminator(size, classes, options.width, options.layers, realness, name=name)
