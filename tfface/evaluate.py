"""`python -m tfface.evaluate RUN`: measures a run on held-out people, and writes a report."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface.cli import Parser, aligned, command, import_tensorflow
from tfface.data import check_path
from tfface.errors import UserError
from tfface.shipped import is_shipped, run_folder

if TYPE_CHECKING:
    from tfface.config import MethodConfig
    from tfface.evaluation import Evaluation
    from tfface.evaluation.gallery import Gallery
    from tfface.evaluation.realism import Judges
    from tfface.methods.trained import Trained


def evaluate_run(
    trained: Trained,
    out: Path,
    count: int | None = None,
    seed: int = 1,
    split: str = "test",
    cache: Path | None = None,
    judge_steps: int | None = None,
    judges: Judges | None = None,
) -> tuple[dict[str, Any], list[list[list[str]]]]:
    """Measures a run, and writes `figures.json` and `report.html`.

    Args:
        trained: A loaded run.
        out: Folder for both; made if missing.
        count: As of `tfface.evaluation.measure`.
        seed: As of `measure`.
        split: As of `measure`.
        cache: As of `measure`; None: `tfface.evaluation.cache_of`.
        judge_steps: As of `measure`.
        judges: As of `measure`; None: stand-ins.

    Returns:
        The figures, and tables of them, with headers.

    Raises:
        UserError: As of `measure`; or `out` cannot be written.
    """
    from tfface import evaluation
    from tfface.engine.run import write_text
    from tfface.evaluation import realism
    from tfface.evaluation.gallery import Gallery
    from tfface.metrics.tables import table

    cache, gallery = cache or evaluation.cache_of(trained), Gallery()
    found = evaluation.measure(
        trained,
        count=count,
        seed=seed,
        split=split,
        cache=cache,
        judge_steps=judge_steps,
        judges=judges or evaluation.Judges(),
        watch=gallery,
    )
    measured = evaluation.evaluation_of(trained)
    figures = {
        "method": trained.name,
        "step": trained.step,
        "data": trained.method.config.data.name,
        **({"seed": seed} if measured.has_truth else {"split": split}),
        **_rounded(found),
    }
    columns, rows = measured.table if measured.has_truth else measured.real_table
    tables = [[[trained.name, *columns], *table(rows, figures)]]
    if "iou_by_class" in figures.get("segmentation", {}):
        tables.append(_by_class(figures["segmentation"]))
    if known := figures.get("likeness"):
        columns, rows = realism.table(known)
        tables.append([["as images", *columns], *table(rows, figures)])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    write_text(out / "figures.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(out / "report.html", _page(measured, figures, tables, gallery))
    return figures, tables


def _by_class(found: dict[str, Any]) -> list[list[str]]:
    """Rows of a table of face parts."""

    def shown(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    classes = found["iou_by_class"]
    rows = [
        [
            name,
            shown(found["share_by_class"][name], 4),
            shown(iou),
            shown(found["f1_by_class"][name]),
        ]
        for name, iou in classes.items()
    ]
    return [["class", "share", "IoU", "F1"], *rows]


def _rounded(values: Any) -> Any:
    """With six significant digits: the last bits depend on the order in which threads add up."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def _page(
    measured: Evaluation, figures: dict[str, Any], tables: list[list[list[str]]], gallery: Gallery
) -> str:
    from tfface import html

    trained, data = measured.trained, measured.method.config.data
    notes = ["In brackets: 95 % confidence intervals, by bootstrap over people."]
    if kind := next((name for name in ("classifier", "segmenter") if name in figures), None):
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in figures[kind].items())
        notes.append(
            f"The {kind} has seen real images only. On held-out ones it reaches: {accuracy}."
        )
    if known := figures.get("second_classifier"):
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in known.items())
        notes.append(f"The second judge, a classifier of another architecture: {accuracy}.")
    notes.append(measured.baselines if measured.has_truth else measured.unmeasured)
    if "likeness" in figures:
        notes.append(
            "As images: FID, KID and SWD compare sets of images, with those of the split; the "
            "others compare an image with the true one. What the names mean and what can be "
            "compared with what is in docs/measures.md."
        )
    which = "built-in faces" if data.name == "synthetic" else f"{data.name}, {figures['split']}"
    return html.page(
        measured.method.title,
        [
            html.text(f"Step {trained.step:,} of {trained.path.name}; {which}."),
            html.section(
                "Figures",
                html.tables(tables),
                html.text(" ".join(notes), soft=True),
            ),
            *gallery.sections(),
        ],
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "evaluate",
        description="Measure a run on held-out people: on built-in faces against true renders, "
        "on other data what can be measured without. Writes figures.json and report.html, with "
        "baselines, confidence intervals, and the best, median and worst results.",
    )
    add = parser.add_argument
    add("run", help="run folder, or a shipped model such as sargan/faces64")
    add(
        "--out",
        metavar="FOLDER",
        help="for both files (RUN/evaluation/STEP; of a shipped model evaluated/METHOD-NAME)",
    )
    add("--count", type=int, metavar="N", help="people, pairs or images (enough)")
    add("--seed", type=int, default=1, help="which people, of built-in faces (%(default)s)")
    add(
        "--split",
        default="test",
        choices=("train", "val", "test"),
        help="of other data (%(default)s)",
    )
    add("--path", metavar="FOLDER", help="the data set, if it has moved")
    add("--step", type=int, help="step of the checkpoint (default: the newest)")
    add(
        "--cache",
        metavar="FOLDER",
        help="for the classifier or segmenter that judges (.cache beside RUN; of other data than "
        "built-in faces RUN/evaluation)",
    )
    add(
        "--inception",
        nargs="?",
        const="",
        metavar="FILE",
        help="FID and KID in features of InceptionV3: its weights, or none for Keras's download "
        "(those of a stand-in)",
    )
    add(
        "--lpips",
        nargs=2,
        metavar=("VGG16", "HEADS"),
        help="LPIPS with these PyTorch files (the distance in features of a stand-in)",
    )
    add(
        "--embedding",
        metavar="FILE",
        help="identity by this SavedModel or ONNX file (on built-in faces the classifier)",
    )
    arguments = parser.parse_args(argv)
    for path in (arguments.inception, *(arguments.lpips or ()), arguments.embedding):
        if path and not Path(path).exists():
            raise UserError(f"{path}: no such file")
    if arguments.count is not None and arguments.count < 1:
        raise UserError(f"--count is {arguments.count}: expected at least 1")
    return arguments


def open_run(path: str, step: int | None, moved: str | None) -> Trained:
    """Loads a run that is to be measured; finds mistakes before TensorFlow is imported.

    Args:
        path: The run folder.
        step: Of its checkpoint; None: the newest.
        moved: Where its data set is now; None: where it was.

    Raises:
        UserError: No run folder, an export in its place, no checkpoint, no data set.
    """
    from tfface.engine.run import Run, checkpoint_files

    folder = run_folder(path)
    exports = [folder, *folder.glob("[0-9]*")]
    if any((version / "saved_model.pb").exists() for version in exports):
        raise UserError(f"{path} is an export: expected the run folder that it was made of")
    name, values = Run(folder).read_config()
    if not checkpoint_files(folder / "checkpoints"):
        raise UserError(f"{path} has no checkpoint yet")
    _check_data(name, values, moved)
    import_tensorflow()

    import tfface

    trained = tfface.load(path, step)
    method, which = trained.method, _measured(trained.method.config)
    if moved is not None:
        data = dataclasses.replace(method.config.datasets()[which], path=moved)
        method.config = dataclasses.replace(method.config, **{which: data})
    return trained


def _check_data(name: str, values: dict, moved: str | None) -> None:
    from tfface.config import from_dict
    from tfface.methods import get_config

    config = from_dict(get_config(name), values)
    for which, data in config.datasets().items():
        if moved is not None and which == _measured(config):
            check_path(dataclasses.replace(data, path=moved), "--path", "--path")
        else:
            check_path(data, f"{which}.path", "--path")


def _measured(config: MethodConfig) -> str:
    """Which of a config's data sets `--path` is about: that of the label maps, if it is another."""
    return list(config.datasets())[-1]


def _default_out(trained: Trained) -> Path:
    if is_shipped(trained.path):
        return Path("evaluated", f"{trained.name}-{trained.path.name}")
    return trained.path / "evaluation" / str(trained.step)


@command
def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit status."""
    arguments = _parse(argv)
    trained = open_run(arguments.run, arguments.step, arguments.path)
    out = Path(arguments.out or _default_out(trained))
    cache = Path(arguments.cache) if arguments.cache else None
    from tfface.evaluation import Judges

    lpips = tuple(arguments.lpips) if arguments.lpips else None
    judges = Judges(arguments.inception, lpips, arguments.embedding)
    options = arguments.count, arguments.seed, arguments.split, cache
    _, tables = evaluate_run(trained, out, *options, judges=judges)
    for cells in tables:
        print(f"{aligned(cells)}\n")
    print(f"look at {(out / 'report.html').resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
