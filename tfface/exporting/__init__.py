"""Exported models: SavedModels for servers, LiteRT and ONNX files for devices.

Nothing is imported here, so that what one form needs is not needed for the others.
"""
