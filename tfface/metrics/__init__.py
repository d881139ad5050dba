"""Metrics of generated and edited images, label maps and image sets."""
