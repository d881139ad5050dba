"""HTML reports with images, tables and charts, each in a single self-contained file."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

_PREVIEWS = 4

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2430; --soft: #667085; --line: #e3e6eb;
  --paper: #fff; --ground: #f5f6f8; --accent: #2f6fdd; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e7eaf0; --soft: #98a2b3;
  --line: #313947; --paper: #1b212b; --ground: #12161d; --accent: #7aa7ff; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }}
h2 {{ font-size: 1.2rem; margin: 0 0 .4rem; }}
p {{ margin: .3rem 0 .8rem; max-width: 75ch; }}
.soft, figcaption, th {{ color: var(--soft); }}
section {{ background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.2rem 1.3rem; margin-top: 1.2rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th {{ font-weight: 500; font-size: .85rem; text-align: left; vertical-align: bottom; }}
.figures th, .figures td {{ padding: .4rem 1.2rem .4rem 0; border-bottom: 1px solid var(--line); }}
.figures td {{ text-align: right; }} .figures td:first-child {{ text-align: left; }}
.figures thead th:not(:first-child) {{ text-align: right; }}
.figures tbody tr:first-child td {{ font-weight: 650; color: var(--accent); }}
.faces th, .faces td {{ padding: 2px; }} .faces th {{ text-align: center; font-size: .8rem; }}
.faces tbody th {{ text-align: right; vertical-align: middle; padding-right: .6rem; }}
.faces img {{ display: block; width: 96px; border-radius: 6px; }}
@media (max-width: 1100px) {{ .faces img {{ width: 64px; }} .faces th {{ font-size: .65rem; }} }}
.faces .apart td, .faces .apart th {{ padding-top: 14px; }}
.tiles {{ display: grid; gap: 1.2rem; margin-top: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(var(--least), 100%), 1fr)); }}
figure {{ margin: 0; }} figure img {{ width: 100%; display: block; border-radius: 6px; }}
figcaption {{ font-size: .85rem; }}
svg {{ width: 100%; height: auto; display: block; }}
svg circle {{ fill: var(--accent); fill-opacity: .55; }} svg .best {{ fill-opacity: 1; }}
svg .part {{ fill: none; stroke: var(--accent); }}
svg path {{ fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }}
svg line {{ stroke: var(--line); }} svg text {{ fill: var(--soft); font-size: 11px; }}
</style>
</head>
<body><main>
<h1>{title}</h1>
{body}
</main></body>
</html>
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole page, from parts returned by the other functions."""
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def text(words: str, soft: bool = False) -> str:
    """A paragraph; `soft` dims it."""
    kind = ' class="soft"' if soft else ""
    return f"<p{kind}>{html.escape(words)}</p>"


def section(title: str, *parts: str) -> str:
    """A section with a title."""
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of metrics, with the first row highlighted."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def tables(contents: Sequence[Sequence[Sequence[str]]]) -> str:
    """Tables of metrics below one another; the first row of each is its header."""
    return "".join(table(header, rows) for header, *rows in contents)


def faces(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image | None]]], group: int = 1
) -> str:
    """A grid of images, with captions above the columns.

    Args:
        columns: Captions.
        rows: Name and images of each row; None leaves a cell empty.
        group: Number of rows in a group; a gap separates groups.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
    lines = []
    for number, (name, images) in enumerate(rows):
        cells = "".join(
            f"<td>{'' if image is None else embedded(image, f'{name}, {column}')}</td>"
            for column, image in zip(columns, images, strict=True)
        )
        apart = ' class="apart"' if number and number % group == 0 else ""
        lines.append(f"<tr{apart}><th>{html.escape(name)}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table class="faces"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def embedded(image: Image.Image, alt: str) -> str:
    """An <img> element that contains the image data."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


def tiles(parts: Sequence[tuple[str, str]], least: int = 280) -> str:
    """Tiles of (caption, HTML) side by side, each at least `least` pixels wide."""
    return f'<div class="tiles" style="--least: {least}px">{"".join(map(_figure, parts))}</div>'


def _figure(part: tuple[str, str]) -> str:
    caption, content = part
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A small line chart of (step, value)."""
    pixels, axes = _chart(points)
    path = " L".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    (first, begin), (last, end) = points[0], points[-1]
    label = f"{name} over training: from {begin:.3g} to {end:.3g}"
    ticks = _tick(pixels[0][0], f"{first:g}", "start")
    ticks += _tick(pixels[-1][0], f"step {last:g}", "end")
    return _svg(label, f'{axes}{ticks}<path d="M{path}"/>')


def scatter(
    name: str, points: Sequence[tuple[float, float, str]], ticks: Sequence[tuple[float, str]]
) -> str:
    """A small scatter plot.

    Args:
        name: Description of the axes.
        points: (x, y, kind); kind "best" is drawn solid, "part" as a ring, "" as usual.
        ticks: (x, label) of the ticks of the x axis, in ascending order.
    """
    ends = [(x, points[0][1]) for x, _ in (ticks[0], ticks[-1])]
    pixels, axes = _chart([*((x, y) for x, y, _ in points), *ends])
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if kind == "best" else 4}" class="{kind}"/>'
        for (x, y), (_, _, kind) in zip(pixels, points, strict=False)
    )
    left, right, low = pixels[-2][0], pixels[-1][0], ticks[0][0]
    scale = (right - left) / ((ticks[-1][0] - low) or 1)
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"]
    names = "".join(
        _tick(left + (x - low) * scale, words, anchor)
        for (x, words), anchor in zip(ticks, anchors, strict=True)
    )
    return _svg(name, f"{axes}{names}{dots}")


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 320, 130, 44, 18, 10


def _chart(points: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], str]:
    """Pixel positions of points, scaled to fill the chart, and the SVG of its axes."""
    xs, ys = zip(*points, strict=True)
    across = (_WIDTH - _LEFT - 8) / ((max(xs) - min(xs)) or 1)
    up = (_HEIGHT - _BOTTOM - _TOP) / ((max(ys) - min(ys)) or 1)
    base = _HEIGHT - _BOTTOM
    pixels = [(_LEFT + (x - min(xs)) * across, base - (y - min(ys)) * up) for x, y in points]
    axes = (
        f'<line x1="{_LEFT}" y1="{base}" x2="{_WIDTH}" y2="{base}"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{max(ys):.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">{min(ys):.3g}</text>'
    )
    return pixels, axes


def _tick(x: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{html.escape(words)}</text>'


def _svg(label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(label)}">'
        f"{content}</svg>"
    )


def training(run: Path, terms: Sequence[str]) -> list[str]:
    """Curves of a run's metrics, and up to four of its previews, evenly spaced."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = {t: [(line["step"], line[t]) for line in lines if t in line] for t in terms}
    paths = sorted((run / "previews").glob("*.png"))
    count = min(len(paths), _PREVIEWS)
    chosen = [paths[round(i * (len(paths) - 1) / max(count - 1, 1))] for i in range(count)]
    previews = [
        (f"step {int(path.stem)}", embedded(Image.open(path), f"preview of step {int(path.stem)}"))
        for path in chosen
    ]
    return [
        tiles([(t, curve(t, points)) for t, points in curves.items() if points]),
        tiles(previews, 480),
    ]
