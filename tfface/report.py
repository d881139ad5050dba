"""One HTML page with pictures, figures and curves, in a single file that needs nothing else."""

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
    """A whole page of parts made by the other functions."""
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def text(words: str, soft: bool = False) -> str:
    """A paragraph; `soft` is of less weight."""
    kind = ' class="soft"' if soft else ""
    return f"<p{kind}>{html.escape(words)}</p>"


def section(title: str, *parts: str) -> str:
    """A titled part of the page."""
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of figures, whose first row stands out."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def faces(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image | None]]], group: int = 1
) -> str:
    """Rows of pictures below captions.

    Args:
        columns: Captions.
        rows: A name and the pictures of each; None leaves a place empty.
        group: So many rows belong together: there is a gap after them.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
    lines = []
    for number, (name, pictures) in enumerate(rows):
        cells = "".join(
            f"<td>{'' if picture is None else image(picture, f'{name}, {column}')}</td>"
            for column, picture in zip(columns, pictures, strict=True)
        )
        apart = ' class="apart"' if number and number % group == 0 else ""
        lines.append(f"<tr{apart}><th>{html.escape(name)}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table class="faces"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def image(picture: Image.Image, alt: str) -> str:
    """A picture within the page."""
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


def tiles(parts: Sequence[tuple[str, str]], least: int = 280) -> str:
    """(caption, HTML) side by side, as many as fit with at least so many pixels each."""
    return f'<div class="tiles" style="--least: {least}px">{"".join(map(_figure, parts))}</div>'


def _figure(part: tuple[str, str]) -> str:
    caption, content = part
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A small line chart of (step, value)."""
    width, height, left, bottom, top = 320, 130, 44, 18, 10
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    across = (width - left - 8) / max(steps[-1] - steps[0], 1)
    up = (height - bottom - top) / ((high - low) or 1)
    places = [
        f"{left + (step - steps[0]) * across:.1f},{height - bottom - (value - low) * up:.1f}"
        for step, value in points
    ]
    base = height - bottom
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(name)} over '
        f'training: from {values[0]:.3g} to {values[-1]:.3g}">'
        f'<line x1="{left}" y1="{base}" x2="{width}" y2="{base}"/>'
        f'<text x="{left - 6}" y="{top + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 6}" y="{base}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 4}">{steps[0]:g}</text>'
        f'<text x="{width}" y="{height - 4}" text-anchor="end">step {steps[-1]:g}</text>'
        f'<path d="M{" L".join(places)}"/></svg>'
    )


def training(run: Path, terms: Sequence[str]) -> list[str]:
    """Curves of some terms of a run's metrics, and some of its previews from first to last."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = {t: [(line["step"], line[t]) for line in lines if t in line] for t in terms}
    paths = sorted((run / "previews").glob("*.png"))
    count = min(len(paths), _PREVIEWS)
    chosen = [paths[round(i * (len(paths) - 1) / max(count - 1, 1))] for i in range(count)]
    previews = [
        (f"step {int(path.stem)}", image(Image.open(path), f"preview of step {int(path.stem)}"))
        for path in chosen
    ]
    return [
        tiles([(t, curve(t, points)) for t, points in curves.items() if points]),
        tiles(previews, 480),
    ]
