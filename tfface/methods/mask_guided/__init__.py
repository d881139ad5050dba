"""Mask guided diverse face image synthesis (Sun et al., Frontiers of Computer Science 2022)."""

from __future__ import annotations

from tfface.methods.mask_guided.config import MaskGuidedConfig

__all__ = ["MaskGuidedConfig"]
