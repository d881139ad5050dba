"""Marks in image files that state that a model generated or edited them.

A mark is XMP metadata with IPTC's property DigitalSourceType (https://cv.iptc.org/newscodes/
digitalsourcetype/), which photo software and platforms read, and with the names and versions of
tfface and of the model. Whoever re-encodes an image may lose it, so a missing mark proves nothing.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Literal
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from tfface.version import __version__

XMP_KEY = "XML:com.adobe.xmp"
"""Keyword of the text chunk of a PNG that holds XMP; XMP specification part 3."""
_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_NAMESPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
_PROPERTIES = {
    "source": "Iptc4xmpExt:DigitalSourceType",
    "tool": "xmp:CreatorTool",
    "model": "Iptc4xmpExt:AISystemUsed",
    "version": "Iptc4xmpExt:AISystemVersionUsed",
}

Source = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
GENERATED: Source = "trainedAlgorithmicMedia"
"""IPTC's term for an image that a model generated."""
EDITED: Source = "compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for an image that a generative model edited."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a mark states.

    Attributes:
        source: IPTC's term, such as `GENERATED` or `EDITED`; of other software any of its terms.
        model: Name of the model; "" if not stated.
        version: Version of the model; "" if not stated.
        tool: Software that wrote the image; "" if not stated.

    Example:
        >>> from tfface.data.marks import EDITED, Mark
        >>> mark = Mark(EDITED, "sargan", "1")
        >>> Mark.from_xmp(mark.xmp()) == mark
        True
    """

    source: str
    model: str = ""
    version: str = ""
    tool: str = f"tfface {__version__}"

    @classmethod
    def of_model(cls, takes: str, model: str, version: str = "") -> Mark:
        """The mark of a model's images.

        Args:
            takes: Input of the model: "image", which it edits, or what it generates from.
            model: As in the class.
            version: As in the class.
        """
        return cls(EDITED if takes == "image" else GENERATED, model, version)

    def xmp(self) -> bytes:
        """The mark as an XMP packet."""
        values = {**dataclasses.asdict(self), "source": _TYPES + self.source}
        properties = " ".join(
            f"{name}={quoteattr(values[key])}" for key, name in _PROPERTIES.items() if values[key]
        )
        namespaces = " ".join(f'xmlns:{key}="{uri}"' for key, uri in _NAMESPACES.items())
        # The identifier of all packets: XMP specification part 1, section 7.3.2.
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" {namespaces} {properties}/>'
            '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
        ).encode()

    def describe(self) -> str:
        """The mark in words, such as "compositeWithTrainedAlgorithmicMedia, by sargan 1"."""
        by = " ".join(part for part in (self.model, self.version) if part)
        using = f" ({self.tool})" if self.tool else ""
        return self.source + (f", by {by}" if by else "") + using

    def png_chunk(self) -> bytes:
        """The mark as an iTXt chunk, which may follow the header of a PNG."""
        # Keyword, uncompressed, without language and translated keyword.
        body = b"iTXt" + XMP_KEY.encode() + b"\0\0\0\0\0" + self.xmp()
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    @classmethod
    def from_xmp(cls, packet: bytes | str) -> Mark | None:
        """Reads XMP metadata, of tfface or other software; None: it states no source.

        Raises:
            ElementTree.ParseError: The packet is not XML.
        """
        root = ElementTree.fromstring(packet)
        found = {key: _value(root, name) for key, name in _PROPERTIES.items()}
        if not found["source"]:
            return None
        return cls(**{**found, "source": found["source"].rsplit("/", 1)[-1]})


def _value(root: ElementTree.Element, name: str) -> str:
    """A property's value, which XMP writes as an attribute or as an element."""
    prefix, key = name.split(":")
    tag = f"{{{_NAMESPACES[prefix]}}}{key}"
    for element in root.iter():
        if tag in element.attrib:
            return element.attrib[tag]
        if element.tag == tag:
            return (element.text or "").strip()
    return ""
