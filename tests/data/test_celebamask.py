"""The reader of CelebAMask-HQ: composition, splits, mirroring, bad masks, exemplars."""

import logging

import numpy as np
import pytest
from image_files import (
    celeba,
    damage,
    flipped,
    make,
    make_celeba,
    masks_of,
    numbers,
    opened,
    part,
    same,
    write_image,
)
from PIL import Image

from tfface.config import Data
from tfface.data import open_source
from tfface.data.files import user_errors
from tfface.data.images import load_image
from tfface.data.label_maps import CLASSES_19, load_label_map, save_label_map
from tfface.errors import UserError
from tfface.prepare import main

SKIN, L_EYE, R_EYE, HAIR, CLOTH = (
    CLASSES_19.index(name) for name in ("skin", "l_eye", "r_eye", "hair", "cloth")
)


def label_map_of(number: int) -> np.ndarray:
    labels = np.zeros((64, 64), np.uint8)
    for name in sorted(masks_of(number), key=CLASSES_19.index):
        labels[masks_of(number)[name]] = CLASSES_19.index(name)
    return labels


def everything(source, split=("train", "val", "test")):
    """Label maps by image number, from one ordered pass."""
    label_maps = {}
    for name in split:
        for batch in source.batches(name, 4):
            label_maps |= dict(zip(numbers(batch), batch["label_map"].numpy(), strict=True))
    return label_maps


def mirrored(labels):
    labels = labels[:, ::-1].copy()
    left, right = labels == L_EYE, labels == R_EYE
    labels[left], labels[right] = R_EYE, L_EYE
    return labels


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("celebamask"))


def test_masks_are_composed_in_class_order(small):
    found = everything(opened(small))
    assert sorted(found) == list(range(1, 21))
    for number, labels in found.items():
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, label_map_of(number)[1::2, 1::2])
    labels = found[1]
    assert labels[9, 4] == HAIR and labels[11, 21] == HAIR and labels[13, 21] == L_EYE
    assert labels[23, 10] == CLOTH and found[2][23, 10] == SKIN
    assert "label_map" not in next(iter(opened(small, ()).batches("train", 2)))
    shapes = opened(small).batches("train", 5, seed=0).element_spec
    assert shapes["label_map"].shape == (5, 32, 32)


def test_mask_folders_hold_2000_images_and_may_be_misspelt(tmp_path):
    make(tmp_path, 12, 3990, "CelebAMaskHQ-mask-anno")
    assert part(tmp_path, 4000, folder="CelebAMaskHQ-mask-anno").parent.name == "2"
    assert set(everything(opened(tmp_path))) == {n % 256 for n in range(3990, 4002)}


def test_mirrored_images_have_their_sides_swapped(small):
    seen = set()
    for batch in opened(small).batches("train", 16, seed=0).take(4):
        flips = flipped(batch)
        for number, flip, labels in zip(numbers(batch), flips, batch["label_map"], strict=True):
            expected = label_map_of(number)[1::2, 1::2]
            np.testing.assert_array_equal(labels, mirrored(expected) if flip else expected)
            seen.add(bool(flip))
    assert seen == {True, False}


def test_celebamask_official_splits_and_attributes(tmp_path, caplog):
    make(tmp_path)
    names = [f"{number}.jpg" for number in range(1, 21)]
    rows = [f"{name}  {'1' if i % 3 else '-1'} -1" for i, name in enumerate(names)]
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(
        "\n".join(["20", "Smiling Bangs", *rows]) + "\n"
    )
    with caplog.at_level(logging.INFO, "tfface"):
        source = opened(tmp_path, (), ("Smiling",))
    assert "split by their names" in caplog.text
    assert sum(source.count(split) for split in ("train", "val", "test")) == 20
    assert source.histogram("train").keys() == {"Smiling", "Bangs"}
    mapping = ["    idx   orig_idx orig_file"]
    mapping += [f"{n:7} {1000 - n:7} {1001 - n:06}.jpg" for n in range(1, 21)]
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping) + "\n")
    (tmp_path / "Eval").mkdir()
    (tmp_path / "Eval" / "list_eval_partition.txt").write_text(
        "".join(f"{1001 - n:06}.jpg {0 if n < 15 else 1 if n < 18 else 2}\n" for n in range(1, 21))
    )
    source = opened(tmp_path, (), ("Smiling",))
    assert [source.count(split) for split in ("train", "val", "test")] == [14, 3, 3]
    (batch,) = source.batches("val", 8)
    assert numbers(batch) == [15, 16, 17]
    expected = [int((n - 1) % 3 > 0) for n in (15, 16, 17)]
    assert batch["attributes"].numpy()[:, 0].tolist() == expected
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping[:-1]))
    with pytest.raises(UserError, match="mapping.txt: expected rows.* no row for 20.jpg"):
        opened(tmp_path)


def test_missing_parts_of_celebamask_are_reported(tmp_path, small):
    with pytest.raises(UserError, match="no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="images of CelebAMask-HQ .*CelebA-HQ-img"):
        opened(tmp_path)
    write_image(tmp_path / "CelebA-HQ-img" / "1.jpg", 1)
    assert opened(tmp_path, ()).count("train") == 1
    with pytest.raises(UserError, match="masks of CelebAMask-HQ .*-mask-anno"):
        opened(tmp_path)
    with pytest.raises(UserError, match="masks of CelebAMask-HQ .*-mask-anno"):
        opened(tmp_path, ()).exemplars("train", 1)
    with pytest.raises(UserError, match="attributes not found.*attribute-anno.txt"):
        opened(small, attributes=("Smiling",))
    with pytest.raises(UserError, match="no expression classes"):
        open_source(Data("celebamask_hq", str(small)), classes=("happy",))
    with pytest.raises(UserError, match="no field 'pose'; it has image, label_map"):
        opened(small, ("pose",))
    plain = celeba(make_celeba(tmp_path / "celeba"))
    with pytest.raises(UserError, match="'celeba', which has no label maps.*celebamask_hq"):
        plain.exemplars("train", 2)


@pytest.mark.parametrize("how", ["truncated", "empty", "missing", "size"])
def test_image_with_bad_masks_is_skipped(tmp_path, caplog, how):
    make(tmp_path)
    if how == "missing":
        for name in masks_of(5):
            part(tmp_path, 5, name).unlink()
    elif how == "size":
        Image.new("RGB", (32, 32)).save(part(tmp_path, 5, "l_eye"))
    else:
        damage(part(tmp_path, 5, "l_eye"), how)
    source = opened(tmp_path)
    for _ in range(2):
        assert sorted(everything(source)) == [n for n in range(1, 21) if n != 5]
    assert caplog.text.count("skipped a bad image (1 so far)") == 1
    assert f"{part(tmp_path, 5, '').name[:6]}" in caplog.text
    # Its image is still good.
    seen = sum((numbers(batch) for batch in opened(tmp_path, ()).batches("train", 4)), [])
    assert 5 in seen
    damage(part(tmp_path, 6), "text")
    source = opened(tmp_path)
    with pytest.raises(UserError, match="2 of the 20 images .*: 5.jpg, 6.jpg"):
        with user_errors(source):
            everything(source)


def test_composed_label_maps_take_precedence(tmp_path, capsys):
    make(tmp_path)
    damage(part(tmp_path, 7), "text")
    words = ["label_maps", "--path", str(tmp_path)]
    assert main(words) == 0
    assert "wrote 19 label maps" in capsys.readouterr().out
    folder = tmp_path / "CelebAMask-HQ-label"
    assert len(list(folder.iterdir())) == 19
    np.testing.assert_array_equal(load_label_map(folder / "3.png"), label_map_of(3))
    save_label_map(np.full((64, 64), HAIR), folder / "3.png")
    (folder / "4.png").unlink()
    (tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00002_skin.png").unlink()
    found = everything(opened(tmp_path))
    assert (found[3] == HAIR).all() and 7 not in found
    for number in (2, 4):  # From the composed file, and from the part masks.
        np.testing.assert_array_equal(found[number], label_map_of(number)[1::2, 1::2])
    assert main(words) == 0 and "wrote 1 label maps" in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    words = ["--data.name", "celebamask_hq", "--data.path", str(tmp_path), "--data.size", "32"]
    assert main(["preview", *words, "--count", "12", "--out", str(sheet)]) == 0
    assert load_image(sheet).height > 4 * 32
    assert main(["label_maps", "--path", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("paired", [0.0, 0.4, 1.0])
def test_exemplars_are_a_pure_function_of_their_number(small, paired):
    source = opened(small, ())
    batches = list(source.exemplars("train", 5, seed=7, paired=paired).take(6))
    for start in (1, 4):
        later = source.exemplars("train", 5, seed=7, start=start, paired=paired)
        for one, other in zip(batches[start:], later, strict=False):
            same(one, other)
    fresh = opened(small).exemplars("train", 5, seed=7, start=3, paired=paired)
    same(batches[3], next(iter(fresh)))
    other = next(iter(source.exemplars("train", 5, seed=8, paired=paired)))
    assert not np.array_equal(other["exemplar"], batches[0]["exemplar"])
    spec = fresh.element_spec
    for name in ("", "exemplar_"):
        assert spec[f"{name}label_map"].shape == (5, 32, 32)
        assert spec[f"{name}label_map"].dtype == np.int32
    assert spec["exemplar"].shape == (5, 32, 32, 3) and spec["paired"].shape == (5,)
    ordered = source.exemplars("train", 5)
    same(list(ordered)[2], next(iter(source.exemplars("train", 5, start=2))))


def exemplar_numbers(batch):
    return numbers({"image": batch["exemplar"]})


def test_paired_exemplar_is_the_image_mirrored_and_cropped(small):
    mirrors, positions = set(), set()
    for batch in opened(small).exemplars("train", 10, seed=0, paired=1.0).take(6):
        assert batch["paired"].numpy().tolist() == [1.0] * 10
        assert exemplar_numbers(batch) == numbers(batch)
        for image, labels, flip, number in zip(
            batch["exemplar"].numpy(),
            batch["exemplar_label_map"].numpy(),
            flipped(batch),
            numbers(batch),
            strict=True,
        ):
            mirror = image[16, 0, 1] < 0
            mirrors.add(bool(mirror != flip))
            # Enlarged to 36 pixels; image and label map are cropped at the same position.
            bright = int((image[16, :, 1] > 0).sum())
            whole = label_map_of(number)[np.ix_(*[(2 * np.arange(36) + 1) * 64 // 72] * 2)]
            whole = mirrored(whole) if mirror else whole
            left = 18 - (32 - bright) if mirror else 18 - bright
            tops = [
                top
                for top in range(5)
                if np.array_equal(whole[top : top + 32, left : left + 32], labels)
            ]
            assert tops
            positions.add((tops[0], left))
    assert mirrors == {True, False} and len(positions) > 12


def test_unpaired_exemplars_come_from_the_split(small):
    source = opened(small)
    known = everything(source, ("train",))
    seen, flips, pairs = {}, [], []
    for batch in source.exemplars("train", 20, seed=0, paired=0.3).take(15):
        own = batch["paired"].numpy() > 0
        pairs += own.tolist()
        flips += flipped({"image": batch["exemplar"]})[~own].tolist()
        rows = zip(numbers(batch), exemplar_numbers(batch), own, strict=True)
        for i, (number, other, is_own) in enumerate(rows):
            assert (number == other) == is_own and other in known
            seen.setdefault(number, set()).add(other)
            if not is_own:
                labels = batch["exemplar_label_map"][i].numpy()
                assert any(np.array_equal(labels, f(known[other])) for f in (np.array, mirrored))
    assert 0.2 < np.mean(pairs) < 0.4 and 0.4 < np.mean(flips) < 0.6
    assert all(len(others) > len(known) / 3 for others in seen.values())
    steady = opened(small, flip=False).exemplars("train", 20, seed=0, paired=0.0).take(3)
    assert not any(flipped({"image": batch["exemplar"]}).any() for batch in steady)


def test_exemplars_without_a_seed_are_in_order(small):
    source = opened(small)
    order = sum((numbers(batch) for batch in source.batches("train", 4)), [])
    for paired in (0.0, 0.9):
        batches = list(source.exemplars("train", 7, paired=paired))
        assert sum(map(numbers, batches), []) == order
        assert sum(map(exemplar_numbers, batches), []) == order[1:] + order[:1]
        assert not any(batch["paired"].numpy().any() for batch in batches)
        assert not any(flipped({"image": batch["exemplar"]}).any() for batch in batches)
    for batch in source.exemplars("train", 7):
        assert batch["paired"].numpy().all() and not flipped(batch).any()
        np.testing.assert_array_equal(batch["exemplar"], batch["image"][:, :, ::-1])
        for labels, other in zip(batch["label_map"], batch["exemplar_label_map"], strict=True):
            np.testing.assert_array_equal(other, mirrored(labels.numpy()))


def test_exemplars_come_from_the_listed_images(tmp_path):
    make(tmp_path)
    order = sorted(everything(opened(tmp_path), ("train",)))
    held_out = next(n for n in range(1, 21) if n not in order)
    a, b, c, d = order[:4]
    file = tmp_path / "exemplars.txt"
    file.write_text(f"{a}.jpg,{b}.jpg,{c}.jpg,{d}.jpg\n{b}.jpg,{held_out}.jpg, {a}.jpg\n")
    source = opened(tmp_path)
    first = next(iter(source.exemplars("train", 3, paired=0.0)))
    assert exemplar_numbers(first) == [b, a, d]
    chosen = []
    for batch in source.exemplars("train", 20, seed=0, paired=0.0).take(80):
        pairs = zip(numbers(batch), exemplar_numbers(batch), strict=True)
        chosen += [other for number, other in pairs if number == a]
    assert set(chosen) == {b, d} and 0.58 < np.mean(np.equal(chosen, b)) < 0.85
    for line in (f"{a}.jpg", f"{a}.jpg,99.jpg"):
        file.write_text(f"{a}.jpg,{b}.jpg\n{line}\n")
        with pytest.raises(UserError, match="exemplars.txt, line 2: expected"):
            source.exemplars("train", 2)


def test_bad_exemplar_is_replaced(tmp_path):
    make(tmp_path)
    order = sorted(everything(opened(tmp_path), ("train",)))
    damage(part(tmp_path, order[3]), "truncated")
    source = opened(tmp_path)
    kept = order[:3] + order[4:]
    for _ in range(2):
        batch = next(iter(source.exemplars("train", len(order), paired=0.0)))
        assert numbers(batch) == [*order[:3], order[4], *order[4:]]
        assert exemplar_numbers(batch)[:3] == [*order[1:3], order[4]]
        shuffled = source.exemplars("train", 8, seed=1, paired=0.5).take(4)
        assert all(set(exemplar_numbers(batch)) <= set(kept) for batch in shuffled)
