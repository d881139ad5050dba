"""`benchmarks/few_images.py`: parts of a folder of expressions, and its table."""

import few_images
import pytest
from PIL import Image

from tfface.errors import UserError


@pytest.fixture
def expressions(tmp_path):
    """30 neutral and 10 happy training images, and two of each class in the other splits."""
    root = tmp_path / "expressions"
    for split, counts in {"train": (30, 10), "val": (2, 2), "test": (2, 2)}.items():
        for name, count in zip(("neutral", "happy"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8)).save(root / split / name / f"{split}-{name}-{i}.png")
    return root


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_parts_keep_the_shares_of_classes_and_contain_each_other(expressions, tmp_path):
    small, large = (
        files(few_images.part(expressions, count, tmp_path / f"{count}")) for count in (8, 20)
    )
    assert small < large < files(expressions)
    for found, counts in ((small, (6, 2)), (large, (15, 5))):
        kept = [sum(name.startswith(f"train/{c}/") for name in found) for c in ("neutral", "happy")]
        assert tuple(kept) == counts
        assert sum(not name.startswith("train/") for name in found) == 8


def test_too_few_images_and_other_folders_are_errors(expressions, tmp_path):
    with pytest.raises(UserError, match="has 40 training images: expected 41 or more"):
        few_images.part(expressions, 41, tmp_path / "part")
    few_images.part(expressions, 8, tmp_path / "part")
    with pytest.raises(UserError, match="links to other images: use another --out"):
        few_images.part(expressions, 4, tmp_path / "part")
    with pytest.raises(UserError, match="no folder .*train"):
        few_images.part(tmp_path / "other", 4, tmp_path / "part")


def test_the_table_has_a_row_for_each_number_of_images():
    edits = {name: {"all": 0.25, "seen": 0.5, "identity": 0.75} for name in ("happy", "mean")}
    result = {"photographs": edits, "intervals": {"photographs": {"mean": {"all": (0.2, 0.3)}}}}
    assert few_images.table({500: result, 1000: result}) == [
        [
            "training images",
            "happy",
            "all edits",
            "what was asked is seen",
            "the person is the same",
        ],
        ["500", "25 %", "25 (20 to 30) %", "50 %", "75 %"],
        ["1,000", "25 %", "25 (20 to 30) %", "50 %", "75 %"],
    ]
