"""Features of EfficientNet-Lite0 for metrics; arguments and errors are those of `pretrained`."""

from __future__ import annotations

import keras

from tfface.evaluation.features import FeatureNetwork
from tfface.evaluation.lpips import Lpips
from tfface.layers.efficientnet import TAPS, pretrained


def efficientnet(weights: str = "") -> FeatureNetwork:
    """EfficientNet-Lite0: 1280 features, for the metrics `fid_efficientnet` and `kid_efficientnet`.

    Images are resized bilinearly to 224 pixels, with antialiasing.
    """
    network = pretrained(weights)
    features = keras.Model(network.inputs, network.get_layer("pooled").output)
    return FeatureNetwork("efficientnet", features)


def perceptual_efficientnet(weights: str = "") -> Lpips:
    """A distance like LPIPS in features of EfficientNet-Lite0, named "perceptual_efficientnet".

    All channels have weight 1, so its values are not comparable with LPIPS.
    """
    network = pretrained(weights)
    maps = [network.get_layer(name).output for name in TAPS]
    return Lpips("perceptual_efficientnet", keras.Model(network.inputs, maps))
