"""Readers of image files: order, splits, labels, and handling of bad images."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import (
    NAMES,
    attributes_of,
    celeba,
    damage,
    flipped,
    folder,
    make_celeba,
    make_folders,
    numbers,
    same,
    write_image,
)

from tfface.config import Data
from tfface.data import open_source
from tfface.data.files import split_by_name, user_errors
from tfface.data.folder import person_of
from tfface.errors import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_celeba(tmp_path_factory.mktemp("celeba"))


@pytest.mark.parametrize("layout", ["flat", "official", "kaggle"])
def test_celeba_layouts_give_the_same_data(tmp_path, layout):
    source = celeba(make_celeba(tmp_path, layout=layout), ("Smiling", "Bangs"))
    assert [source.count(split) for split in ("train", "val", "test")] == [32, 4, 4]
    assert source.classes == () and source.known_attributes == NAMES
    (batch,) = source.batches("val", 8)
    assert numbers(batch) == [8, 18, 28, 38]
    assert batch["attributes"].numpy().tolist() == [[0, 0], [1, 0], [1, 0], [1, 0]]
    assert source.histogram("val") == {"Bangs": 0, "Eyeglasses": 1, "Smiling": 3}


def test_batches_are_a_pure_function_of_their_number(small):
    source = celeba(small, NAMES)
    batches = list(source.batches("train", 5, seed=7).take(8))
    for start in (1, 6):
        for one, other in zip(
            batches[start:], source.batches("train", 5, seed=7, start=start), strict=False
        ):
            same(one, other)
    same(batches[3], next(iter(celeba(small, NAMES).batches("train", 5, seed=7, start=3))))
    other = next(iter(source.batches("train", 5, seed=8)))
    assert numbers(other) != numbers(batches[0])
    assert batches[0]["image"].dtype == np.float32 and batches[0]["attributes"].dtype == np.int32
    spec = source.batches("train", 5, seed=7).element_spec
    assert spec["image"].shape == (5, 32, 32, 3) and spec["attributes"].shape == (5, 3)


def test_each_epoch_has_every_image_once_in_a_new_order(small):
    source = celeba(small, NAMES)
    seen = sum((numbers(batch) for batch in source.batches("train", 3, seed=0).take(32)), [])
    epochs = [seen[i : i + 32] for i in (0, 32, 64)]
    in_order = [n for n in range(1, 41) if n % 10 not in (8, 9)]
    assert all(sorted(epoch) == in_order for epoch in epochs)
    assert len({tuple(epoch) for epoch in [in_order, *epochs]}) == 4
    for batch in source.batches("train", 50, seed=0).take(2):
        for number, row in zip(numbers(batch), batch["attributes"].numpy(), strict=True):
            assert row.tolist() == attributes_of(number)


def test_streams_of_equal_length_are_shuffled_differently(tmp_path):
    """Images with and without an attribute must not be paired alike in every epoch."""
    make_celeba(tmp_path, 40)
    (tmp_path / "list_eval_partition.txt").write_text(
        "".join(f"{n:06}.jpg 0\n" for n in range(1, 41))
    )
    source = celeba(tmp_path)
    orders = []
    for value in (True, False):
        (batch,) = source.batches("train", 20, seed=1, where=("Bangs", value)).take(1)
        assert {n % 2 for n in numbers(batch)} == {int(value)}
        orders.append([(n - 1) // 2 for n in numbers(batch)])
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]


def test_training_images_are_randomly_flipped(small):
    source = celeba(small)
    flips = np.concatenate([flipped(b) for b in source.batches("train", 32, seed=0).take(6)])
    assert 0.3 < flips.mean() < 0.7
    assert not any(flipped(b).any() for b in source.batches("train", 32))
    steady = celeba(small, flip=False).batches("train", 32, seed=0).take(2)
    assert not any(flipped(b).any() for b in steady)


def test_ordered_pass_includes_the_last_partial_batch(small):
    batches = list(celeba(small).batches("train", 10))
    assert [len(batch["image"]) for batch in batches] == [10, 10, 10, 2]
    assert numbers(batches[0]) == [1, 2, 3, 4, 5, 6, 7, 10, 11, 12]
    (last,) = celeba(small).batches("train", 10, start=3)
    same(last, batches[3])


def test_where_and_select_filter_by_attribute(small):
    source = celeba(small, ("Eyeglasses",))
    for value in (True, False):
        (batch,) = source.batches("train", 64, where=("Eyeglasses", value))
        assert set(batch["attributes"].numpy().ravel()) == {int(value)}
    files = source.select("train", ("Bangs", True), ("Smiling", False))
    assert [file.name for file in files] == [f"{n:06}.jpg" for n in (1, 3, 5, 7)]
    with pytest.raises(UserError, match="no images with Bangs in the split 'val'"):
        source.batches("val", 2, where=("Bangs", True))


def test_unknown_names_are_reported_with_the_known_ones(small, tmp_path):
    with pytest.raises(
        UserError, match="'Smilling'; perhaps you mean 'Smiling'.*Bangs, Eyeglasses"
    ):
        celeba(small, ("Smilling",))
    with pytest.raises(UserError, match="no attribute 'Hat'.*Bangs, Eyeglasses, Smiling"):
        celeba(small).batches("train", 2, where=("Hat", True))
    with pytest.raises(UserError, match="expected one of train, val, test"):
        celeba(small).count("training")
    with pytest.raises(UserError, match="no expression classes.*prepare folders"):
        open_source(Data("celeba", str(small)), (), ("happy",))
    with pytest.raises(UserError, match="no field 'label_map'; it has image"):
        open_source(Data("celeba", str(small)), fields=("label_map",))
    make_folders(tmp_path, {"happy": 2, "sad": 2})
    with pytest.raises(UserError, match="'hapy'; perhaps you mean 'happy'.*happy, sad"):
        folder(tmp_path, ("hapy",))
    with pytest.raises(UserError, match="has no attributes .*Smiling"):
        open_source(Data("folder", str(tmp_path)), ("Smiling",))
    with pytest.raises(UserError, match="no attribute 'Smiling' .it has none"):
        folder(tmp_path).batches("train", 2, where=("Smiling", True))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("40\n", "50\n", "number of images, 40 .* is '50'"),
        ("000007.jpg  1", "000007.jpg  2", "values of 1 and -1 .* '000007.jpg'"),
        ("000007.jpg  1", "000007.jpg", "3 values of 1 and -1 .* '000007.jpg'"),
    ],
)
def test_damaged_attribute_files_are_reported(tmp_path, old, new, message):
    edit(make_celeba(tmp_path) / "list_attr_celeba.txt", old, new)
    with pytest.raises(UserError, match=f"list_attr_celeba.txt: .*{message}"):
        celeba(tmp_path)


@pytest.mark.parametrize(
    ("separator", "index", "encoding"),
    [
        (",", False, "utf-8-sig"),
        (";", False, "utf-8"),
        (",", True, "utf-8"),
        ("\t", False, "utf-16"),
        (" ", True, "utf-8"),
    ],
    ids=[
        "byte order mark",
        "semicolons",
        "column of row numbers",
        "Excel's Unicode text",
        "blanks",
    ],
)
def test_lists_written_by_spreadsheets_and_pandas_give_the_same_data(
    tmp_path, separator, index, encoding
):
    expected = celeba(make_celeba(tmp_path / "original"), NAMES)
    root = make_celeba(tmp_path / "written")
    for stem, header in (("list_attr_celeba", NAMES), ("list_eval_partition", ("partition",))):
        original = root / f"{stem}.txt"
        lines = [line.split() for line in original.read_text().splitlines() if ".jpg" in line]
        original.unlink()
        rows = [["image_id", *header], *lines]
        if index:
            rows = [["" if i == 0 else str(i - 1), *row] for i, row in enumerate(rows)]
        text = "\r\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
        (root / f"{stem}.csv").write_bytes(text.encode(encoding))
    read = celeba(root, NAMES)
    for split in ("train", "val", "test"):
        assert read.count(split) == expected.count(split) > 0
        same(
            *(
                {k: v.numpy() for k, v in next(iter(source.batches(split, 4))).items()}
                for source in (read, expected)
            )
        )


def test_damaged_partition_is_reported_and_missing_one_replaced(tmp_path, caplog):
    file = make_celeba(tmp_path) / "list_eval_partition.txt"
    edit(file, "000003.jpg 0\n", "")
    with pytest.raises(UserError, match="list_eval_partition.txt: has no row for 000003.jpg"):
        celeba(tmp_path)
    file.write_text("000001.jpg train\n")
    with pytest.raises(UserError, match="expected a name and 0, 1 or 2, not '000001.jpg train'"):
        celeba(tmp_path)
    file.unlink()
    with caplog.at_level(logging.INFO, "tfface"):
        source = celeba(tmp_path)
    assert "split by their names" in caplog.text
    counts = [source.count(split) for split in ("train", "val", "test")]
    assert sum(counts) == 40 and min(counts) > 0 and counts[0] > 25


def test_missing_parts_of_celeba_are_reported(tmp_path):
    with pytest.raises(UserError, match="nowhere': no such folder"):
        celeba(tmp_path / "nowhere")
    with pytest.raises(UserError, match="attributes of CelebA .*list_attr_celeba.txt"):
        celeba(tmp_path)
    make_celeba(tmp_path)
    (tmp_path / "img_align_celeba").rename(tmp_path / "images")
    with pytest.raises(UserError, match="images of CelebA .*img_align_celeba"):
        celeba(tmp_path)


def test_missing_images_count_as_bad(tmp_path, caplog):
    make_celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000002.jpg").unlink()
    source = celeba(tmp_path)
    assert source.count("train") == 31 and "000002.jpg: no such file" in caplog.text
    assert 2 not in numbers(next(iter(source.batches("train", 31))))
    (tmp_path / "img_align_celeba" / "000005.jpg").unlink()
    with pytest.raises(UserError, match="2 of the 40 images.* 000002.jpg, 000005.jpg"):
        celeba(tmp_path)


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_bad_image_is_logged_once_and_replaced_by_the_next(tmp_path, caplog, how):
    make_celeba(tmp_path)
    damage(tmp_path / "img_align_celeba" / "000003.jpg", how)
    source = celeba(tmp_path, NAMES)
    for _ in range(2):
        (batch,) = source.batches("train", 64, where=("Bangs", True))
        assert numbers(batch)[:3] == [1, 5, 5]
        assert batch["attributes"].numpy()[1].tolist() == attributes_of(5)
    assert caplog.text.count("000003.jpg") == 1
    again = celeba(tmp_path, NAMES).batches("train", 6, seed=1).take(8)
    for one, other in zip(source.batches("train", 6, seed=1).take(8), again, strict=True):
        same(one, other)


def test_bad_last_image_is_replaced_by_the_first(tmp_path):
    make_celeba(tmp_path)
    damage(tmp_path / "img_align_celeba" / "000038.jpg", "empty")
    (batch,) = celeba(tmp_path).batches("val", 4)
    assert numbers(batch) == [8, 18, 28, 8]


def test_too_many_bad_images_stop_the_pipeline(tmp_path):
    make_celeba(tmp_path)
    for name in ("000003.jpg", "000012.jpg"):
        damage(tmp_path / "img_align_celeba" / name, "text")
    source = celeba(tmp_path)
    with pytest.raises(UserError, match="2 of the 40 .*more than 1%: 000003.jpg, 000012.jpg"):
        with user_errors(None, celeba(tmp_path), source):  # The failed source is found.
            for _ in source.batches("train", 4, seed=0):
                pass
    assert isinstance(source.failure, UserError)


def test_split_of_only_bad_images_is_an_error(tmp_path):
    make_celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text(
        "".join(f"{n:06}.jpg {int(n == 1)}\n" for n in range(1, 41))
    )
    damage(tmp_path / "img_align_celeba" / "000001.jpg", "text")
    source = celeba(tmp_path)
    with pytest.raises(UserError, match="none of the .*images can be read: 000001.jpg"):
        with user_errors(source):
            next(iter(source.batches("val", 1)))


def test_class_folders_give_classes_and_splits(tmp_path):
    make_folders(tmp_path, {"NES": 12, "AFS": 12, "SUS": 3})
    (tmp_path / "AFS" / "notes.txt").touch()
    (tmp_path / ".cache").mkdir()
    source = folder(tmp_path)
    assert source.classes == ("AFS", "NES", "SUS")
    assert sum(source.count(split) for split in ("train", "val", "test")) == 27
    class_of = {n: 1 if n <= 12 else 0 if n <= 24 else 2 for n in range(1, 28)}
    seen = []
    for split in ("train", "val", "test"):
        for batch in source.batches(split, 4):
            seen += numbers(batch)
            assert batch["expression"].numpy().tolist() == [class_of[n] for n in numbers(batch)]
    assert sorted(seen) == list(range(1, 28))
    assert sum(source.histogram("train").values()) == source.count("train")
    shuffled = next(iter(source.batches("train", 6, seed=0)))
    assert shuffled["expression"].numpy().tolist() == [class_of[n] for n in numbers(shuffled)]
    subset = folder(tmp_path, ("SUS", "AFS"))
    assert subset.classes == ("SUS", "AFS")
    (batch,) = subset.batches("train", 64)
    assert {class_of[n] for n in numbers(batch)} == {0, 2}
    assert batch["expression"].numpy()[0] == 0 and numbers(batch)[0] > 24


def test_class_folders_use_given_split_folders(tmp_path):
    make_folders(tmp_path / "train", {"happy": 20, "sad": 20})
    make_folders(tmp_path / "test", {"happy": 3})
    source = folder(tmp_path)
    counts = [source.count(split) for split in ("train", "val", "test")]
    assert counts[2] == 3 and counts[1] >= 2 and sum(counts) == 43
    make_folders(tmp_path / "val", {"sad": 2})
    assert [folder(tmp_path).count(split) for split in ("train", "val", "test")] == [40, 2, 3]
    make_folders(tmp_path / "test", {"angry": 1})
    with pytest.raises(UserError, match="train: has no class 'angry'.*happy, sad"):
        folder(tmp_path)


def test_balanced_classes_occur_equally_often_in_training_only(tmp_path):
    make_folders(tmp_path / "train", {"happy": 6, "sad": 3})
    make_folders(tmp_path / "val", {"happy": 4, "sad": 2})
    source = folder(tmp_path, balance=True)
    (epoch,) = source.batches("train", 12, seed=1).take(1)
    assert np.bincount(epoch["expression"]).tolist() == [6, 6]
    assert len(set(numbers(epoch))) == 9
    (held_out,) = source.batches("val", 12)
    assert np.bincount(held_out["expression"]).tolist() == [4, 2]
    (plain,) = folder(tmp_path).batches("train", 9, seed=1).take(1)
    assert np.bincount(plain["expression"]).tolist() == [6, 3]


KDEF = ("AF", "AN", "DI", "HA", "NE", "SA", "SU")


@pytest.mark.parametrize(
    "files",
    [
        lambda person, i: [f"{'AB'[s]}F{person:02}{KDEF[i]}S.JPG" for s in (0, 1)],
        lambda person, i: [
            f"Rafd{angle}_{person:02}_Caucasian_female_{'happy' if i else 'sad'}_frontal.jpg"
            for angle in ("045", "090")
        ],
        lambda person, i: [f"{i + 1:02}_{person:03}_{4000 + person}.jpg"],
    ],
    ids=["KDEF", "RaFD", "CFEE"],
)
def test_splits_by_person_share_nobody(tmp_path, files, caplog):
    for i, label in enumerate(("happy", "sad")):
        for person in range(1, 41):
            for name in files(person, i):
                write_image(tmp_path / label / name, person)
    with caplog.at_level("INFO", logger="tfface"):
        source = folder(tmp_path)
    where = {split: {number for b in source.batches(split, 8) for number in numbers(b)}
             for split in ("train", "val", "test")}  # fmt: skip
    assert all(where.values()) and set.union(*where.values()) == set(range(1, 41))
    assert sum(map(len, where.values())) == 40
    assert "by person" in caplog.text and "more than one split" not in caplog.text


def test_file_names_without_a_person_are_split_by_name(tmp_path, caplog):
    make_folders(tmp_path, {"happy": 20, "sad": 20})
    write_image(tmp_path / "sad" / "AF01SAS.JPG", 99)
    with caplog.at_level("INFO", logger="tfface"):
        folder(tmp_path)
    assert "1 of 41 images" in caplog.text and "more than one split" in caplog.text
    for person in range(1, 10):
        write_image(tmp_path / "happy" / f"AF{person:02}HAS.JPG", person)
    (tmp_path / "angry").mkdir()
    source = folder(tmp_path, ("happy",))
    held = [file.name for split in ("val", "test") for file in source.select(split)]
    person = next(name for name in held if name.startswith("AF"))
    (tmp_path / "angry" / person.replace("HA", "AN")).write_bytes(
        (tmp_path / "happy" / person).read_bytes()
    )
    with pytest.raises(UserError, match="all people of the class 'angry'.*train/angry"):
        folder(tmp_path)


def test_wrong_folder_layouts_are_reported(tmp_path):
    with pytest.raises(UserError, match="nowhere.*no such folder"):
        folder(tmp_path / "nowhere")
    write_image(tmp_path / "face.png", 1)
    with pytest.raises(UserError, match="expected a folder of images per class.*/happy/001.jpg"):
        folder(tmp_path)
    make_folders(tmp_path, {"happy": 2})
    (tmp_path / "sad").mkdir()
    with pytest.raises(UserError, match="sad: has no images"):
        folder(tmp_path)
    assert folder(tmp_path, ("happy",)).count("train") == 2


def test_split_by_name_is_stable_and_balanced():
    names = [f"{i}.jpg" for i in range(4000)]
    splits = split_by_name(names)
    assert np.allclose(np.bincount(splits) / 4000, [0.9, 0.05, 0.05], atol=0.015)
    np.testing.assert_array_equal(split_by_name(names[:2000]), splits[:2000])
    assert set(split_by_name(names, ["test"])) == {0, 2}
    for size in range(1, 40):
        counts = np.bincount(split_by_name(names[:size]), minlength=3)
        assert counts[0] and (size < 10 or counts.min())


def test_process_exits_while_a_pipeline_prefetches(tmp_path):
    make_folders(tmp_path, {"happy": 30, "sad": 30})
    code = (
        "import sys, tensorflow as tf\n"
        "from tfface.config import Data\n"
        "from tfface.data import open_source\n"
        "batches = open_source(Data('folder', sys.argv[1])).batches('train', 8, seed=0)\n"
        "strategy = tf.distribute.MirroredStrategy(['CPU:0'])\n"
        "iterator = iter(strategy.experimental_distribute_dataset(batches))\n"
        "next(iterator)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=100, check=False)
    assert run.returncode == 0


def test_class_folders_without_splits_are_split_by_class_and_name(tmp_path):
    source = folder(make_folders(tmp_path, {"happy": 60, "sad": 40}))
    for index, split in enumerate(("train", "val", "test")):
        expected = []
        for name, size in (("happy", 60), ("sad", 40)):
            files = [f"{name}/{i:03}.png" for i in range(size)]
            which = split_by_name(files) == index
            expected += [file for file, member in zip(files, which, strict=True) if member]
        assert [str(f.relative_to(tmp_path)) for f in source.select(split)] == expected


def test_usual_names_of_split_folders_are_known(tmp_path, caplog):
    for split, size in (("Train", 12), ("validation", 3), ("Testing", 2)):
        make_folders(tmp_path / split, {"happy": size, "sad": size})
    with caplog.at_level("INFO", logger="tfface"):
        source = folder(tmp_path)
    assert [source.count(split) for split in ("train", "val", "test")] == [24, 6, 4]
    for name in ("Train", "validation", "Testing"):
        assert name in caplog.text
    make_folders(tmp_path / "val", {"happy": 1, "sad": 1})
    with pytest.raises(UserError, match="val.*validation|validation.*val"):
        folder(tmp_path)


def test_a_test_folder_without_a_training_folder_is_reported(tmp_path):
    make_folders(tmp_path / "test", {"happy": 2, "sad": 2})
    with pytest.raises(UserError, match="test/.*expected.*train"):
        folder(tmp_path)


def test_files_that_class_folders_do_not_use_are_counted_and_named(tmp_path, caplog):
    make_folders(tmp_path, {"happy": 20, "sad": 20})
    write_image(tmp_path / "happy" / "more.jfif", 50)
    (tmp_path / "happy" / "scan.tif").write_bytes(b"x")
    (tmp_path / "sad" / "scan.tif").write_bytes(b"x")
    (tmp_path / "sad" / "Thumbs.db").write_bytes(b"x")
    write_image(tmp_path / "sad" / "old" / "1.png", 51)
    write_image(tmp_path / "lost.png", 52)
    source = folder(tmp_path)
    assert sum(source.count(split) for split in ("train", "val", "test")) == 41
    assert sum(source.unused.values()) == 4
    for word in ("2 with .tif", "1 in subfolders", "old/", "1 beside the class folders"):
        assert word in caplog.text


def expression_names(kind, people):
    if kind == "kdef":
        return [
            f"KDEF/{s}{p}/{s}{p}{e}{angle}.JPG"
            for p in people for s in "AB" for e in ("HA", "SA") for angle in ("S", "HL")
        ]  # fmt: skip
    if kind == "rafd":
        return [
            f"Rafd{angle}_{p}_Caucasian_female_{e}_frontal.jpg"
            for p in people for e in ("happy", "sad") for angle in ("090", "045")
        ]  # fmt: skip
    return [f"{c}/Images1/{c}_{p}_0001.jpg" for p in people for c in ("01", "02")]


@pytest.mark.parametrize(
    ("kind", "people", "classes", "unused"),
    [
        ("rafd", [f"{i:02}" for i in range(1, 41)], ("happy", "sad"), 81),
        ("kdef", [f"F{i:02}" for i in range(1, 41)], ("HAS", "SAS"), 161),
        ("cfee", [f"{i:03}" for i in range(1, 41)], ("01", "02"), 1),
    ],
)
def test_data_sets_whose_file_names_state_person_and_expression(
    tmp_path, caplog, kind, people, classes, unused
):
    for name in expression_names(kind, people):
        write_image(tmp_path / name, 1 + int(re.sub(r"\D", "", person_of(name))))
    (tmp_path / "readme.txt").write_text("terms of use")
    source = open_source(Data(kind, str(tmp_path), size=32))
    assert source.classes == classes
    assert sum(source.unused.values()) == unused and str(unused - 1 or 1) in caplog.text
    seen = [
        {person_of(file.name) for file in source.select(split)}
        for split in ("train", "val", "test")
    ]
    assert all(seen) and set.union(*seen) == set(people) and sum(map(len, seen)) == 40
    batch = next(iter(source.batches("train", 4)))
    assert batch["image"].shape == (4, 32, 32, 3)
    with pytest.raises(UserError, match=f"angy.*{classes[0]}"):
        open_source(Data(kind, str(tmp_path), size=32), (), ("angy",))


def test_names_of_another_data_set_are_reported(tmp_path):
    write_image(tmp_path / "face.png", 1)
    with pytest.raises(UserError, match="KDEF.*1 files"):
        open_source(Data("kdef", str(tmp_path)))


def make_affectnet(root, layout):
    """88 training images with the labels 0 to 10 in turn, and 11 for validation."""
    for split, part, count in (("training", "train_set", 88), ("validation", "val_set", 11)):
        names = [f"{i // 20}/{split}{i}.png" for i in range(count)]
        rows = []
        for i, name in enumerate(names):
            if layout == "folders":
                annotations = root / part / "annotations"
                annotations.mkdir(parents=True, exist_ok=True)
                write_image(root / part / "images" / Path(name).name, 1 + i)
                label = str(i % 11) if split == "training" else i % 11  # Both kinds occur.
                np.save(annotations / f"{Path(name).stem}_exp.npy", label)
                continue
            write_image(root / "Manually_Annotated_Images" / name, 1 + i)
            rows.append(f"{name},0,0,9,9,1.0;2.0;3.5,{i % 11},-2,-2\n")
        if rows:
            header = "subDirectory_filePath,face_x,face_y,face_width,face_height,"
            header += "facial_landmarks,expression,valence,arousal\n"
            lists = root / "Manually_Annotated_file_lists"
            lists.mkdir(exist_ok=True)
            # The validation list may come without a header.
            text = (header if split == "training" else "") + "".join(rows)
            (lists / f"{split}.csv").write_text(text)
    return root


@pytest.mark.parametrize("layout", ["lists", "folders"])
def test_affectnet_layouts_give_the_same_data(tmp_path, layout, caplog):
    source = open_source(Data("affectnet", str(make_affectnet(tmp_path, layout)), size=32))
    assert source.classes[:3] == ("neutral", "happy", "sad") and source.classes[7] == "contempt"
    assert [source.count(split) for split in ("train", "val", "test")] == [60, 8, 4]
    assert source.histogram("val") == dict.fromkeys(source.classes, 1)
    assert dict(source.unused) == {
        "with the label 8 (none)": 9,
        "with the label 9 (uncertain)": 9,
        "with the label 10 (no face)": 9,
    }
    assert "9 with the label 10 (no face)" in caplog.text
    (batch,) = source.batches("val", 8)
    assert sorted(numbers(batch)) == list(range(1, 9))
    assert [n - 1 for n in numbers(batch)] == batch["expression"].numpy().tolist()
    two = open_source(Data("affectnet", str(tmp_path), size=32), (), ("sad", "happy"))
    assert two.classes == ("sad", "happy") and two.histogram("val") == {"sad": 1, "happy": 1}


def test_flaws_of_affectnet_are_reported(tmp_path):
    def message(root):
        with pytest.raises(UserError) as error:
            open_source(Data("affectnet", str(root), size=32))
        return str(error.value)

    lists, folders = (
        make_affectnet(tmp_path / "a", "lists"),
        make_affectnet(tmp_path / "b", "folders"),
    )
    (tmp_path / "empty").mkdir()
    assert "images of AffectNet" in message(tmp_path / "empty")
    path = lists / "Manually_Annotated_file_lists" / "training.csv"
    good = path.read_text().splitlines()
    for row, expected in (
        ("0/a.png,0,0", "row 2 has 3 values: expected 9"),
        ("0/a.png,0,0,9,9,1,11,0,0", "row 2: the expression is '11': expected a number from 0"),
    ):
        path.write_text("\n".join([good[0], row, *good[2:]]))
        assert f"training.csv: {expected}" in message(lists)
    path.write_text("\n".join(good))
    for name in ("0/training0.png", "0/training1.png"):
        (lists / "Manually_Annotated_Images" / name).unlink()
    assert "2 of the 72 images listed are missing" in message(lists)

    broken = folders / "train_set" / "annotations" / "training0_exp.npy"
    broken.write_bytes(b"")
    assert "training0_exp.npy: not the number of an expression" in message(folders)
    broken.unlink()
    found = open_source(Data("affectnet", str(folders), size=32))
    assert found.unused["without an annotation"] == 1


def test_part_of_a_data_set_is_used_when_asked(tmp_path, caplog):
    root = make_celeba(tmp_path)
    for number in range(1, 21):
        (root / "img_align_celeba" / f"{number:06}.jpg").unlink()
    with pytest.raises(UserError, match="20 of the 40.*allow_missing"):
        celeba(root)
    source = celeba(root, allow_missing=True)
    assert sum(source.count(split) for split in ("train", "val", "test")) == 20
    assert "20 of the 40" in caplog.text
    seen = [
        n
        for split in ("train", "val", "test")
        for b in source.batches(split, 8)
        for n in numbers(b)
    ]
    assert sorted(seen) == list(range(21, 41))


def test_images_that_celeba_does_not_list_are_counted(tmp_path, caplog):
    root = make_celeba(tmp_path)
    write_image(root / "img_align_celeba" / "999999.jpg", 9)
    celeba(root)
    assert "1 images" in caplog.text and "999999.jpg" in caplog.text
