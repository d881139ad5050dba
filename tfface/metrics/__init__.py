"""Measures of edited faces."""
