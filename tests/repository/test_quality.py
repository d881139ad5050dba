"""`make bench-quality`, on tiny presets."""

import json
from pathlib import Path

import pytest
import quality

pytestmark = pytest.mark.usefixtures("eagerly")

FILE = Path(__file__).parents[2] / "benchmarks" / "quality.py"

OLD = [
    [["sargan", "edited", "copy"], ["seen", "85.0 %", "12.5 %"]],
    [["realism", "edited", "copy"], ["PSNR", "27.6 dB", ""]],
]


def test_changes_are_reported():
    assert quality.changes(OLD, OLD) == []
    new = [[["sargan", "edited", "copy"], ["seen", "80.0 %", "12.5 %"], ["error", "1 %", ""]]]
    assert quality.changes(OLD, new) == [
        "seen, edited: 85.0 % -> 80.0 %",
        "error, edited: nothing -> 1 %",
        "PSNR, edited: 27.6 dB -> nothing",
    ]


def test_seeds_have_a_table_with_means_and_deviations():
    tables = [
        [["m", "edited", "truth"], ["PSNR", f"{psnr} dB (1.0 to 2.0)", "exact"], ["copy", "", ""]]
        for psnr in (28.0, 29.0, 30.0)
    ]
    assert quality.seeds_table(tables) == [
        ["m, training seeds", "0", "1", "2", "mean ± deviation"],
        ["PSNR", "28.0 dB", "29.0 dB", "30.0 dB", "29.0 ± 1.0 dB"],
    ]


def test_results_page_has_the_recorded_tables():
    _, written, _ = quality.block(FILE.parents[1] / "docs" / "results.md", quality.MARK)
    recorded = json.loads(FILE.with_name("quality.json").read_text())
    tables = [quality.markdown(cells) for _, found in sorted(recorded.items()) for cells in found]
    assert written.strip() == "\n\n".join(tables)


def test_invalid_arguments_are_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quality, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "results.md").write_text("# Results\n")
    assert quality.main([]) == 2
    assert "expected two lines <!-- bench-quality -->" in capsys.readouterr().err
    assert quality.main(["--methods", "gan"]) == 2
    assert "invalid choice: 'gan'" in capsys.readouterr().err
    assert quality.main(["--seeds", "0"]) == 2
    assert "--seeds is 0: expected 1 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_tables_are_written_into_the_results_page(tmp_path, capsys, monkeypatch):
    import tfface.data
    from tfface.evaluation.attributes import Attributes
    from tfface.evaluation.classifier import Classifier, _build

    class Judge(Classifier):
        has_identity = False

        def attributes(self, images):
            return images[:, 8, 8 : 8 + len(self.names), 0] > 0

    def judge(size, names, **_):
        return Judge(_build(size, 1, 0, 0, 0), names, {})

    monkeypatch.setattr("tfface.evaluation.classifier.train_classifier", judge)
    monkeypatch.setitem(tfface.data.SOURCES, "synthetic", "tfface.testing:FewFaces")
    monkeypatch.setattr(Attributes, "counts", (3, 3))
    monkeypatch.setattr(quality, "ROOT", tmp_path)
    monkeypatch.setattr(quality, "PRESET", "tiny")
    (tmp_path / "benchmarks").mkdir()
    record = tmp_path / "benchmarks" / "quality.json"
    record.write_text(json.dumps({"sargan": OLD}))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "results.md"
    page.write_text(f"before\n{quality.MARK}\n{quality.MARK}\nafter\n")
    words = ["--methods", "elegant", "--out", str(tmp_path / "runs")]
    assert quality.main(words) == 0
    assert "elegant: PSNR, edited: nothing -> " in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "| seen | 85.0 % | 12.5 % |" in text and "| elegant | edited |" in text
    assert "| elegant, realism | generated |" in text

    # Trained models are reused, with identical results.
    assert quality.main(words) == 0
    assert "nothing -> " not in capsys.readouterr().out and page.read_text() == text

    assert quality.main([*words, "--seeds", "2"]) == 0
    assert "| elegant, training seeds | 0 | 1 | mean ± deviation |" in page.read_text()
    assert (tmp_path / "runs" / "elegant-seed1" / "checkpoints").is_dir()
