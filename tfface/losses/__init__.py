"""Losses that several methods share: adversarial terms with expressions, regions, segmentation."""
