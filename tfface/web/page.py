"""The layout of the page, in Gradio."""

from __future__ import annotations

import functools
import html
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfface.errors import UserError
from tfface.web.actions import MOST_SEEDS, PARTS, Actions, Results, example_maps, to_painted
from tfface.web.examples import faces
from tfface.web.offers import BUILT_IN, Offer

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Before Gradio is imported.
import gradio as gr  # noqa: E402

_HERE = Path(__file__).parent
_BUILT_IN = (
    "This model was trained on built-in faces: it is **not suitable for photographs**. The "
    "examples are built-in faces that it has not seen."
)
_PHOTOGRAPHS = (
    "This model was trained on photographs. The largest face of an image is found, aligned, edited "
    "and pasted back; the image stays the same outside the face."
)
_UNKNOWN = (
    "This model does not state which images it was trained on. The central square of an image is "
    "used as it is. The examples are built-in faces; models trained on those are **not suitable "
    "for photographs**."
)


def open_page(offers: Sequence[Offer], host: str, port: int) -> tuple[str, Callable[[], None]]:
    """Opens the page.

    Args:
        offers: The models; at least one.
        host: Address to listen on.
        port: Port; 0: any free one.

    Returns:
        The URL of the page, and a function that closes it and deletes uploaded images and results.

    Raises:
        UserError: The address cannot be listened on.
    """
    folder = tempfile.TemporaryDirectory(prefix="tfface-app-")
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    page = build_page(offers, folder.name)

    def close() -> None:
        page.close(verbose=False)
        folder.cleanup()

    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port or _free_port(host),
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            share=False,
            footer_links=[],
            max_file_size="20mb",
            allowed_paths=[str(path) for path in faces()],
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css_paths=_HERE / "page.css",
        )
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error}") from error
    return url, close


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return taken.getsockname()[1]


def build_page(offers: Sequence[Offer], folder: str) -> gr.Blocks:
    """The page, with a tab for each kind of edit that a model offers; `folder`: for results."""
    tabs = (
        ("Expression", _expression_tab, lambda offer: "expression" in offer.options),
        ("Attributes", _attributes_tab, lambda offer: "attribute" in offer.options),
        ("Paint", _paint_tab, lambda offer: "seed" in offer.options),
        ("Exemplar", _exemplar_tab, lambda offer: "exemplar" in offer.options),
        ("Parts", _parts_tab, lambda offer: offer.segments),
    )
    actions = Actions(folder)
    with gr.Blocks(title="tfface", analytics_enabled=False) as page:
        gr.Markdown(
            "# tfface\nEdit and generate faces. Every result is marked as such in its file."
        )
        with gr.Tabs():
            for title, tab, suits in tabs:
                suitable = {offer.model.name: offer for offer in offers if suits(offer)}
                if suitable:
                    with gr.Tab(title):
                        tab(actions, suitable)
    return page


def _in_page(action: Callable) -> Callable:
    """Shows errors for users in the page."""

    @functools.wraps(action)
    def run(*values):
        try:
            return action(*values)
        except UserError as error:
            raise gr.Error(
                html.escape(str(error)), duration=None, title="No result", print_exception=False
            ) from error

    return run


def _choose_model(offers: dict[str, Offer]) -> gr.Dropdown:
    """The choice of a model, with a notice about it."""
    names = list(offers)
    model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
    notice = gr.Markdown(_notice(offers[names[0]]), elem_classes="notice")
    model.change(lambda name: _notice(offers[name]), model, notice)
    return model


def _notice(offer: Offer) -> str:
    if offer.photographs:
        return _PHOTOGRAPHS
    return _BUILT_IN if offer.crop == BUILT_IN else _UNKNOWN


def _image(label: str) -> gr.Image:
    # The file as it was uploaded: it is read like those of the command `edit`.
    return gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "webcam", "clipboard"],
        height=300,
    )


def _examples(offers: dict[str, Offer], label: str, target: gr.Image | gr.Gallery) -> None:
    """A strip of built-in faces: a click replaces an image, or adds to a gallery."""
    if all(offer.photographs for offer in offers.values()):
        return  # In which no built-in face would be found.
    files = [str(path) for path in faces()]
    strip = gr.Gallery(
        files,
        label=label,
        columns=len(files),
        fit_columns=False,
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_classes=["examples", "strip-of-images"],
    )

    def choose(shown: Any, event: gr.SelectData):
        added = [*(shown or []), (files[event.index], None)]
        return (added if isinstance(target, gr.Gallery) else files[event.index]), gr.Gallery(
            selected_index=None
        )

    strip.select(choose, target, [target, strip], show_progress="hidden")


def _references(label: str) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        type="filepath",
        file_types=["image"],
        columns=3,
        fit_columns=False,
        interactive=True,
        elem_classes="strip-of-images",
        object_fit="contain",
    )


def _files(gallery: list[tuple[str, Any]] | None) -> list[str]:
    return [file for file, _ in gallery or []]


def _results() -> tuple[gr.Markdown, gr.Gallery]:
    note = gr.Markdown(visible=False)
    gallery = gr.Gallery(
        label="Results",
        format="png",
        interactive=False,
        fit_columns=False,
        object_fit="contain",
        buttons=["download", "download_all", "fullscreen"],
        elem_classes=["results", "strip-of-images"],
    )
    return note, gallery


def _shown(results: Results) -> tuple[dict[str, Any], gr.Gallery]:
    note = gr.Markdown(results.note, visible=bool(results.note))
    return note, gr.Gallery(results.images, columns=results.columns)


def _expression_tab(actions: Actions, offers: dict[str, Offer]) -> None:
    model = _choose_model(offers)
    with gr.Row():
        with gr.Column():
            image = _image("Face")
            _examples(offers, "Example faces", image)
            expression = gr.Dropdown(label="Expression", **_expressions(offers, model.value))
            run = gr.Button("Change the expression", variant="primary")
        with gr.Column():
            outputs = _results()
    model.change(lambda name: gr.Dropdown(**_expressions(offers, name)), model, expression)

    @_in_page
    def change(name, image, expression):
        return _shown(actions.change_expression(offers[name], image, [expression]))

    run.click(change, [model, image, expression], outputs)


def _expressions(offers: dict[str, Offer], name: str) -> dict[str, Any]:
    return {"choices": ["all", *offers[name].model.labels], "value": "all"}


def _attributes_tab(actions: Actions, offers: dict[str, Offer]) -> None:
    model = _choose_model(offers)
    with gr.Row():
        with gr.Column():
            image = _image("Face")
            _examples(offers, "Example faces", image)
            attributes = gr.CheckboxGroup(
                offers[model.value].model.labels,
                label="Attributes",
                info="Several are transferred together: with one reference for each, in order, or "
                "one for all.",
            )
            references = _references("References: faces that show the attributes")
            _examples(offers, "Example references", references)
            strength = gr.Slider(0, 1, 1, step=0.1, label="Strength")
            matrix = gr.Dropdown(
                [("one image", 0), *[(f"{n} x {n} interpolation", n) for n in range(3, 7)]],
                value=0,
                label="Result",
                info="An interpolation needs one attribute and three references, or two attributes "
                "and two references; it sets the strengths.",
            )
            run = gr.Button("Transfer", variant="primary")
        with gr.Column():
            outputs = _results()
    model.change(
        lambda name: gr.CheckboxGroup(choices=offers[name].model.labels, value=[]),
        model,
        attributes,
    )

    @_in_page
    def transfer(name, image, references, attributes, strength, matrix):
        offer = offers[name]
        # In the model's order, which is also that of the boxes.
        chosen = [label for label in offer.model.labels if label in attributes]
        return _shown(
            actions.transfer_attributes(offer, image, _files(references), chosen, strength, matrix)
        )

    run.click(transfer, [model, image, references, attributes, strength, matrix], outputs)


def _painters(offers: dict[str, Offer], model: gr.Dropdown) -> list[gr.HTML]:
    """For each model a canvas of its size, with examples; only that of the chosen one is shown."""
    painters, columns = [], []
    for name, offer in offers.items():
        with gr.Column(visible=name == model.value) as column:
            painters.append(_painter(offer))
        columns.append(column)
    model.change(
        lambda chosen: [gr.Column(visible=name == chosen) for name in offers], model, columns
    )
    return painters


def _painter(offer: Offer) -> gr.HTML:
    """A canvas for label maps or drawings, with examples, and a button to open a file."""
    maps = example_maps(offer)
    painter = gr.HTML(
        maps[0],
        html_template='<div class="painter"></div>',
        js_on_load=(_HERE / "painter.js").read_text(),
        side=offer.side,
        codes=[[name, _hex(colour)] for name, colour in PARTS[: 20 if offer.model.lines else 19]],
        examples=maps,
        what="drawing" if offer.model.lines else "label map",
    )
    opened = gr.UploadButton("Open a PNG file", file_types=[".png"])
    opened.upload(_in_page(lambda file: to_painted(file, offer)), opened, painter)
    return painter


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def _paint_tab(actions: Actions, offers: dict[str, Offer]) -> None:
    model = _choose_model(offers)
    with gr.Row():
        with gr.Column():
            painters = _painters(offers, model)
        with gr.Column():
            count = gr.Slider(1, MOST_SEEDS, 4, step=1, label="Number of random styles")
            first = gr.Number(1, precision=0, minimum=0, label="Seed of the first")
            references = _references("Or faces whose styles are used")
            _examples(offers, "Example faces", references)
            run = gr.Button("Generate", variant="primary")
            outputs = _results()

    @_in_page
    def synthesize(name, count, first, references, *painted):
        map_of = dict(zip(offers, painted, strict=True))
        files = _files(references)
        return _shown(actions.synthesize(offers[name], map_of[name], count, first, files))

    run.click(synthesize, [model, count, first, references, *painters], outputs)


def _exemplar_tab(actions: Actions, offers: dict[str, Offer]) -> None:
    model = _choose_model(offers)
    with gr.Row():
        with gr.Column():
            painters = _painters(offers, model)
        with gr.Column():
            exemplar = _image("Exemplar: a face whose style is used")
            _examples(offers, "Example faces", exemplar)
            run = gr.Button("Generate", variant="primary")
            outputs = _results()
            gr.Markdown(
                "Click a point of the face below to see which blocks of the exemplar were "
                "retrieved for it: the brighter an outline, the larger the weight."
            )
            with gr.Row():
                face, blocks = map(_of_blocks, ("Face", "Exemplar"))
    shown = gr.State()  # The model, map or drawing, exemplar and face that are shown.

    @_in_page
    def generate(name, exemplar, *painted):
        source = dict(zip(offers, painted, strict=True))[name]
        results = actions.generate(offers[name], source, [exemplar] if exemplar else [])
        enlarged = actions.enlarge(results.images[0][0])
        return (name, source, exemplar, enlarged), enlarged, None, *_shown(results)

    @_in_page
    def retrieve(shown, event: gr.SelectData):
        name, *inputs = shown
        face, exemplar, note = actions.retrieve(offers[name], *inputs, event.index)
        return face, exemplar, gr.Markdown(note, visible=bool(note))

    run.click(generate, [model, exemplar, *painters], [shown, face, blocks, *outputs])
    face.select(retrieve, shown, [face, blocks, outputs[0]])


def _of_blocks(label: str) -> gr.Image:
    return gr.Image(
        label=label,
        type="filepath",
        interactive=False,
        min_width=100,
        buttons=["fullscreen"],
        elem_classes="blocks",
    )


def _parts_tab(actions: Actions, offers: dict[str, Offer]) -> None:
    model = _choose_model(offers)
    with gr.Row():
        with gr.Column():
            image = _image("Face")
            _examples(offers, "Example faces", image)
            run = gr.Button("Find the parts", variant="primary")
        with gr.Column():
            note = gr.Markdown(visible=False)
            segmented = gr.AnnotatedImage(
                label="Parts; left and right are the person's",
                color_map={name: _hex(colour) for name, colour in PARTS},
                format="png",
                buttons=["fullscreen"],
            )

    @_in_page
    def segment(name, image):
        seen, parts, text = actions.segment(offers[name], image)
        masks = [(mask.astype(float), part) for mask, part in parts]
        return gr.Markdown(text, visible=bool(text)), (seen, masks)

    run.click(segment, [model, image], [note, segmented])
