"""Losses that several methods share: adversarial ones of expressions, and those of regions."""
