"""`benchmarks/train_step.py`, without PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import step_worker
import train_step

FOLDER = Path(__file__).parents[2] / "benchmarks"


def paper_record(**changes):
    """Two discriminator steps of 1 s in an iteration, and a step of both networks."""
    weights = {"first": 4.0, "both": 1.0, "inference": 0.0, "matrix product": 0.0}
    times = {
        "tfface float32": [1.0, 3.0, 0.1, 0.5],
        "PyTorch float32": [2.0, 7.0, 0.2, 1.0],
        "compiled PyTorch float32": [4.0, 6.0, 0.1, 1.0],
    }
    return {
        "commit": "abc",
        "processor": "some processor, 2 cores",
        "versions": {"tensorflow": "2.21", "torch": "2.14"},
        "weights": weights,
        "seconds": {k: dict(zip(weights, v, strict=True)) for k, v in times.items()},
        "spread": 1.05,
        "flop": {"first": 1e9, "both": 3e9, "inference": 1e8},
        "difference": 1e-7,
        **changes,
    }


def demo_record():
    weights = {"steps 0 to 100": 100, "steps 100 to 300": 200}
    seconds = {
        "tfface": dict(zip(weights, (0.1, 0.25), strict=True)),
        "abc": dict(zip(weights, (0.3, 0.25), strict=True)),
    }
    return {**paper_record(), "weights": weights, "seconds": seconds}


def test_table_beside_pytorch():
    header, *rows = train_step.paper_table("paper/x", paper_record())
    assert header[-1] == "ratio float32"
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["first"] == ["1 s", "2 s", "4 s", "2.00"]
    assert by_name["generator step"] == ["2 s", "5 s", "2 s", "1.00"]
    assert by_name["iteration, 5 : 1"] == ["7 s", "15 s", "22 s", "2.14"]
    assert by_name["inference"][-1] == "1.00"
    assert "matrix product" not in by_name


def test_shares_of_the_roofline():
    cells = train_step.roofline({"paper/x": paper_record()})
    peak = 2 * train_step.SIDE**3 / 0.5  # The fastest matrix product takes half a second.
    by_name = {row[0]: row[1:] for row in cells[1:]}
    share = f"{100 * 7e9 / 7.0 / peak:.0f} %"
    assert by_name["paper/x, iteration, 5 : 1"][:2] == ["7.0", share]
    assert by_name["paper/x, peak in GFLOP/s"][1] == f"{peak / 1e9:.0f}"
    assert by_name["paper/x, first"][3:] == ["", ""]  # Not measured in bfloat16.


def test_table_of_a_demo_preset():
    header, first, _, whole = train_step.demo_table("demo/x", demo_record())
    assert header == ["demo/x", "tfface", "abc", "ratio to abc"]
    assert first == ["steps 0 to 100", "0.1000 s", "0.3000 s", "3.00"]
    assert whole == ["all steps", "1.00 min", "1.33 min", "1.33"]


def test_records_of_the_same_commit_are_merged():
    old = paper_record(seconds={"tfface bfloat16": {"first": 1.0}}, spread=1.2)
    merged = train_step.merged(old, paper_record())
    assert len(merged["seconds"]) == 4 and merged["spread"] == 1.2
    assert train_step.merged({**old, "commit": "other"}, paper_record()) == paper_record()


def test_page_has_the_recorded_tables():
    page = FOLDER.parent / "docs" / "performance.md"
    _, block, _ = train_step.block(page, train_step.MARK)
    recorded = json.loads((FOLDER / "performance.json").read_text())
    assert block.strip() == train_step.tables(recorded)


def test_page_is_written_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{train_step.MARK}\nold\n{train_step.MARK}\nafter\n")
    records = {"paper/x": paper_record(), "demo/x": demo_record()}
    train_step.replace_block(page, train_step.MARK, train_step.tables(records))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| demo/x | tfface | abc |" in text and "some processor, 2 cores" in text


def test_invalid_arguments_are_reported(tmp_path, capsys):
    assert train_step.main(["--cases", "demo/gan"]) == 2
    assert "demo/gan" in capsys.readouterr().err
    assert train_step.main(["--against", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert train_step.main(["--repeats", "0"]) == 2
    assert "--repeats is 0" in capsys.readouterr().err


def test_help_imports_neither_tensorflow_nor_pytorch():
    code = "import sys, train_step; print({'tensorflow', 'torch'} & set(sys.modules))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_a_failed_process_is_reported():
    variant = train_step.Variant("x", [sys.executable, "-c", "raise ValueError('reason')"], {})
    with pytest.raises(train_step.UserError, match="(?s)'x' ended.*reason"):
        train_step.measure("demo/x", [variant], 1)


def test_variants_take_turns_and_the_fastest_counts(tmp_path):
    code = """
import json, sys
print(json.dumps({"units": {"a": 1, "b": 2}, "torch": "2"}), flush=True)
for i, line in enumerate(sys.stdin):
    open(sys.argv[1], "a").write(sys.argv[2] + line)
    print(10 - i, flush=True)
"""
    log = tmp_path / "log"
    variants = [
        train_step.Variant(name, [sys.executable, "-c", code, str(log), name], {}) for name in "xy"
    ]
    record = train_step.measure("demo/x", variants, 2)
    assert log.read_text().split() == ["xa", "ya", "xb", "yb"] * 3
    assert record["seconds"] == {name: {"a": 6.0, "b": 5.0} for name in "xy"}
    assert record["weights"] == {"a": 1, "b": 2} and record["versions"] == {"torch": "2"}


def test_stages_start_again_at_their_end():
    import tensorflow as tf

    class Trainer:
        numbers: list[int] = []

        def batches(self, start):
            return iter(range(start, 1000))

        def step(self, number, batch):
            assert number == batch
            self.numbers.append(number)
            return [], tf.constant(0.0)

    stage = step_worker.Stage(Trainer(), 100, 120, 30)
    assert stage() > 0 and stage() > 0
    assert Trainer.numbers == [*range(100, 120)] * 2
