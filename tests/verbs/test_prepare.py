"""The verb `prepare`."""

import re
import subprocess
import sys

import numpy as np
import pytest
from image_files import attributes_of, damage, make_celeba, make_folders, write_image
from PIL import Image

from tfface.config import Data
from tfface.data.images import load_image
from tfface.data.label_maps import load_label_map
from tfface.data.synthetic import SyntheticFaces
from tfface.prepare import main


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_celeba(tmp_path_factory.mktemp("celeba"))


def rules(*texts):
    return [word for text in texts for word in ("--rule", text)]


def test_folders_sorts_each_split_by_rules_and_preview_shows_the_classes(small, tmp_path, capsys):
    out = tmp_path / "faces"
    chosen = rules("plain=-Smiling,-Bangs", "smile=+Smiling")
    assert main(["folders", "--path", str(small), "--out", str(out), *chosen]) == 0
    for split, ends in (("train", (0, 1, 2, 3, 4, 5, 6, 7)), ("val", (8,)), ("test", (9,))):
        for name in ("plain", "smile"):
            found = sorted(file.name for file in (out / split / name).iterdir())
            expected = []
            for number in (n for n in range(1, 41) if n % 10 in ends):
                bangs, _, smiling = attributes_of(number)
                if smiling if name == "smile" else not smiling and not bangs:
                    expected.append(f"{number:06}.jpg")
            assert found == expected
    first = next((out / "train" / "smile").iterdir())
    assert first.read_bytes() == (small / "img_align_celeba" / first.name).read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["faces"]
    capsys.readouterr()
    sheet = tmp_path / "sheet.png"
    options = [
        "--data.name",
        "folder",
        "--data.path",
        str(out),
        "--count",
        "8",
        "--out",
        str(sheet),
    ]
    assert main(["preview", *options]) == 0
    assert load_image(sheet).width > 4 * 64
    printed = capsys.readouterr().out
    assert "train  28" in printed and "smile" in printed


def test_folders_limit_applies_to_each_class_and_split(small, tmp_path):
    out = tmp_path / "faces"
    out.mkdir()
    words = ["--path", str(small), "--out", str(out), "--limit", "2", *rules("all=+Smiling")]
    assert main(["folders", *words]) == 0
    assert len(list(out.rglob("*.jpg"))) == 6


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["a=Smiling"], "expected a rule like"),
        (["../a=+Smiling"], "expected a rule like"),
        (["a=+Smiling", "a=-Smiling"], "expected one rule per class"),
        (["a=+Smilin"], "perhaps you mean 'Smiling'"),
        (["a=+Smiling", "b=+Bangs"], "matches the rules of both a and b"),
    ],
)
def test_invalid_rules_are_errors_and_write_nothing(small, tmp_path, capsys, chosen, message):
    words = ["--path", str(small), "--out", str(tmp_path / "faces"), *rules(*chosen)]
    assert main(["folders", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_class_without_training_images_is_an_error(tmp_path, capsys):
    make_celeba(tmp_path, 10)
    words = ["--path", str(tmp_path), "--out", str(tmp_path / "faces"), *rules("a=+Smiling")]
    assert main(["folders", *words]) == 2
    assert "rule a: no training image" in capsys.readouterr().err


def test_an_interrupted_copy_leaves_nothing(small, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfface.prepare_files.shutil.copyfile", interrupted)
    words = ["--path", str(small), "--out", str(tmp_path / "faces"), *rules("a=+Smiling")]
    assert main(["folders", *words]) == 130
    assert not list(tmp_path.iterdir())


def test_a_nonempty_output_folder_is_an_error_and_unchanged(small, tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    words = ["--path", str(small), "--out", str(tmp_path), *rules("a=+Smiling")]
    assert main(["folders", *words]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_preview_of_celeba_counts_attributes_and_draws_rows(small, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    words = ["--data.name", "celeba", "--data.path", str(small), "--data.size", "32"]
    chosen = ["--attributes", "Smiling", "Bangs", "--count", "12", "--out", str(sheet)]
    assert main(["preview", *words, *chosen]) == 0
    printed = capsys.readouterr().out
    assert "train  32" in printed and "val    4" in printed and "Eyeglasses" in printed
    assert load_image(sheet).height >= 4 * 32
    assert main(["preview", *words, "--split", "test", "--out", str(sheet)]) == 0


def test_preview_of_built_in_faces_draws_a_row_per_person(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    words = ["preview", "--data.size", "32", "--out", str(sheet), "--count", "4"]
    assert main([*words, "--classes", "happy", "sad"]) == 0
    assert "endless" in capsys.readouterr().out
    with Image.open(sheet) as opened:
        assert opened.width >= 2 * 32 and opened.height >= 2 * 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "VERB"),
        (["preview", "--data.nam", "celeba"], "perhaps you mean '--data.name'"),
        (["preview", "--data.name", "celeba"], "data.path is empty"),
        (["preview", "--data.name", "celeba", "--data.path", "nowhere"], "no such folder"),
        (["preview", "--data.size", "50"], "multiple of 32"),
        (["preview", "--count", "0"], "at least 1"),
    ],
)
def test_mistakes_are_reported_in_one_line(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_an_empty_class_folder_is_an_error_that_names_it(tmp_path, capsys):
    make_folders(tmp_path, {"happy": 2})
    (tmp_path / "sad").mkdir()
    assert main(["preview", "--data.name", "folder", "--data.path", str(tmp_path)]) == 2
    assert "sad: has no images" in capsys.readouterr().err


def test_help_does_not_import_tensorflow():
    code = (
        "import sys\nfrom tfface.prepare import main\n"
        "try:\n    main(['folders', '--help'])\n"
        "except SystemExit as end:\n    sys.exit(end.code or 'tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "--rule" in run.stdout


def test_faces_and_their_label_maps_become_files(tmp_path, capsys):
    out = tmp_path / "faces"
    assert main(["faces", "--out", str(out), "--count", "3", "--size", "32"]) == 0
    names = [f"face-000{i}.png" for i in range(3)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "label_maps"]
    assert sorted(path.name for path in (out / "label_maps").iterdir()) == names
    drawn = np.asarray(load_image(out / "face-0001.png"), float) / 127.5 - 1
    batch = next(iter(SyntheticFaces(Data(size=32), fields=("label_map",)).batches("test", 3)))
    np.testing.assert_allclose(drawn, batch["image"][1], atol=0.005)
    labels = load_label_map(out / "label_maps" / "face-0001.png")
    np.testing.assert_array_equal(labels, batch["label_map"][1])
    assert "3" in capsys.readouterr().out


def test_faces_of_an_invalid_size_are_refused(tmp_path, capsys):
    assert main(["faces", "--out", str(tmp_path / "faces"), "--size", "33"]) == 2
    assert "33" in capsys.readouterr().err and not (tmp_path / "faces").exists()


def test_check_reports_counts_sizes_unused_and_bad_files(tmp_path, capsys):
    make_folders(tmp_path / "faces", {"happy": 20, "sad": 20})
    write_image(tmp_path / "faces" / "sad" / "large.png", 1, side=80)
    (tmp_path / "faces" / "sad" / "scan.tif").write_bytes(b"x")
    words = ["check", "--data.path", str(tmp_path / "faces"), "--out", str(tmp_path / "sheet.png")]
    assert main(words) == 0
    text = capsys.readouterr().out
    for fact in (
        "18  49%  happy",
        "1  with .tif",
        "read 41 images, 0 of them bad",
        "32x32",
        "80x80",
    ):
        assert re.sub(r" +", " ", fact) in re.sub(r" +", " ", text)
    assert "40 images are smaller" in text and (tmp_path / "sheet.png").exists()
    damage(tmp_path / "faces" / "happy" / "003.png", "truncated")
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "1 of them bad" in text and "003.png" in text
    assert main(["check", "--data.name", "synthetic"]) == 2
