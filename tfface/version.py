"""The version of tfface."""

__version__ = "0.1.0"
