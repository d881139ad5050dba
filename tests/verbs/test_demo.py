"""The demonstration from end to end, and its mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tfface.demo import main
from tfface.evaluation import EVALUATIONS
from tfface.methods.base import Task


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--metod", "sargan"], "perhaps you mean '--method'?"),
        (["--steps", "0"], "--steps is 0: expected at least 1"),
        (["--method", "gan"], "invalid choice"),
    ],
)
def test_mistakes_are_reported_in_one_line(words, expected, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_help_does_not_import_tensorflow():
    code = (
        "import sys\nfrom tfface.demo import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--preset" in done.stdout


@pytest.mark.parametrize("task", Task)
def test_table_rows_have_a_metric_for_each_column(task):
    evaluation = EVALUATIONS[task]
    assert evaluation.counts[0] > evaluation.counts[1] > 0
    for columns, rows in (evaluation.table, evaluation.real_table):
        assert rows and all(len(row.names) == len(columns) for row in rows)


def test_a_server_that_cannot_start_is_a_user_error(tmp_path):
    from tfface.demo import serving
    from tfface.errors import UserError

    with pytest.raises(UserError, match="the server did not start: .*no such"):
        with serving(tmp_path / "nothing", "m", tmp_path / "log"):
            pass


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_demo_trains_serves_evaluates_and_reuses_the_networks(tmp_path, capsys):
    out = tmp_path / "runs" / "demo"
    words = ["--preset", "tiny", "--out", str(out)]
    assert main(words) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    figures = json.loads((out / "figures.json").read_text())
    assert (figures["method"], figures["steps"]) == ("sargan", 6)
    assert {"edited", "copy", "target", "classifier", "seconds"} <= set(figures)
    page = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", page)
    assert page.count("<img") == page.count(' alt="') > 30
    assert "<svg" in page and "ground truth" in page
    # Trained networks are reused.
    assert main(words) == 0
    again = json.loads((out / "figures.json").read_text())
    assert {k: again[k] for k in ("edited", "classifier")} == {
        k: figures[k] for k in ("edited", "classifier")
    }
    assert sorted(p.name for p in (out / "model").iterdir()) == ["1", "2"]
