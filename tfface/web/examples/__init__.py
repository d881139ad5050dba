"""Built-in faces as example inputs, drawn in advance: drawing them needs TensorFlow.

`face-N.webp` and `label_map-N.png` are test faces of `tfface.data.synthetic`, 256 pixels wide; no
shipped model has seen them. N is their number in the split.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def faces() -> list[Path]:
    """Files of the faces."""
    return sorted(_FOLDER.glob("face-*.webp"))


def label_map_of(face: Path) -> Path:
    """File of a face's label map: grey class ids."""
    return face.with_name(f"{face.stem.replace('face', 'label_map')}.png")
