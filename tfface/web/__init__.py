"""The page of `python -m tfface.app`; does not import methods or the engine.

Modules: `offers` (what served models accept), `actions` (what the page does with them, through
`tfface.editing`), `examples` (built-in faces), `page` (its layout, the only module that needs
Gradio).
"""
