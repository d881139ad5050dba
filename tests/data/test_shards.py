"""Shards: the same batches as from the files."""

import io

import numpy as np
import pytest
import tensorflow as tf
from image_files import celeba, damage, folder, make, make_celeba, make_folders
from PIL import Image

from tfface.config import Data
from tfface.data import open_source
from tfface.data.files import user_errors
from tfface.data.shards import is_sharded, write_shards
from tfface.errors import UserError
from tfface.prepare import main


def assert_same_batches(files, shards, count=4, **options):
    for seed in (3, None):
        both = [s.batches("train", 5, seed=seed, **options).take(count) for s in (files, shards)]
        number = 0
        for one, other in zip(*both, strict=True):
            number += 1
            assert one.keys() == other.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], other[key], err_msg=key)
        assert number


def test_class_folders(tmp_path):
    make_folders(tmp_path / "files", {"happy": 12, "sad": 5, "angry": 7})
    write_shards(folder(tmp_path / "files"), str(tmp_path / "out"), images=10)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 3
    for classes in ((), ("sad", "angry")):
        for balance in (False, True):
            pair = [folder(tmp_path / name, classes, balance=balance) for name in ("files", "out")]
            assert_same_batches(*pair)
            assert pair[0].classes == pair[1].classes
            for split in ("train", "val", "test"):
                assert pair[0].histogram(split) == pair[1].histogram(split)


def test_celeba_with_attributes_and_a_bad_file(tmp_path, caplog):
    root = make_celeba(tmp_path / "files", 40)
    [image] = [p for p in root.rglob("000004.*")]
    damage(image, "truncated")
    [webp] = [p for p in root.rglob("000007.*")]
    with Image.open(webp) as picture:
        content = io.BytesIO()
        picture.save(content, "WEBP", lossless=True)
    webp.write_bytes(content.getvalue())  # Pillow does not care for the suffix, TensorFlow neither.
    bad = write_shards(celeba(root), str(tmp_path / "out"))
    assert bad == [image.name] and image.name in caplog.text
    with user_errors():
        pair = [celeba(path, ("Smiling", "Bangs")) for path in (root, tmp_path / "out")]
        assert_same_batches(*pair)
        assert_same_batches(*pair, where=("Smiling", True))
        assert_same_batches(*pair, start=2)


@pytest.mark.parametrize("size", [None, 32])
def test_celebamask_with_label_maps_and_exemplars(tmp_path, size):
    root = tmp_path / "files"
    make(root)
    data = [Data("celebamask_hq", str(p), size=32) for p in (root, tmp_path / "out")]
    files = open_source(data[0], fields=("label_map",))
    write_shards(files, str(tmp_path / "out"), size=size)
    shards = open_source(data[1], fields=("label_map",))
    assert_same_batches(files, shards)
    pairs = [next(iter(s.exemplars("train", 4, seed=1, paired=0.5))) for s in (files, shards)]
    for key in pairs[0]:
        # A square that was resized before is another one when it is enlarged.
        if size is None or "exemplar" not in key:
            np.testing.assert_array_equal(pairs[0][key], pairs[1][key])
    if size:
        with pytest.raises(UserError, match="data.size is 64.*resized to 32"):
            open_source(Data("celebamask_hq", str(tmp_path / "out"), size=64))


def test_remote_folders(tmp_path):
    make_folders(tmp_path / "files", {"happy": 4, "sad": 4})
    out = "ram://shards/faces"
    write_shards(folder(tmp_path / "files"), out)
    assert is_sharded(out)
    assert_same_batches(folder(tmp_path / "files"), folder(out))
    assert folder(out).count("train") == folder(tmp_path / "files").count("train")


def test_a_stopped_run_continues_and_other_shards_are_refused(tmp_path):
    source = folder(make_folders(tmp_path / "files", {"happy": 6, "sad": 6}))
    out = tmp_path / "out"
    write_shards(source, str(out), images=5)
    first, *others = sorted(out.glob("*.tfrecord"))
    kept = others[0].stat().st_mtime_ns
    first.unlink()
    (out / "shards.npz").unlink()
    assert not is_sharded(str(out))
    write_shards(source, str(out), images=5)
    assert first.exists() and others[0].stat().st_mtime_ns == kept
    assert_same_batches(source, folder(out))
    with pytest.raises(UserError, match="has shards of other images"):
        write_shards(source, str(out), images=4)
    assert not list(out.glob("*.tmp"))


def test_the_command_and_its_errors(tmp_path, capsys):
    make_folders(tmp_path / "files", {"happy": 4, "sad": 4})
    command = ["shards", "--data.path", str(tmp_path / "files"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "wrote" in capsys.readouterr().out
    again = ["shards", "--data.path", str(tmp_path / "out"), "--out", str(tmp_path / "b")]
    assert main(again) == 2
    assert "not shards" in capsys.readouterr().err
    with pytest.raises(UserError, match="shards of data.name 'folder', not 'celeba'"):
        celeba(tmp_path / "out")
    with pytest.raises(UserError, match="has no class 'glad'"):
        folder(tmp_path / "out", ("glad",))
    (tmp_path / "out" / "shards.npz").write_bytes(b"x")
    with pytest.raises(UserError, match="shards.npz: cannot be read"):
        folder(tmp_path / "out")


def test_records_are_read_by_tensorflow(tmp_path):
    write_shards(folder(make_folders(tmp_path / "files", {"a": 3, "b": 2})), str(tmp_path / "out"))
    files = [str(p) for p in (tmp_path / "out").glob("*.tfrecord")]
    features = {"image": tf.io.FixedLenFeature([], tf.string)}
    records = [tf.io.parse_single_example(r, features) for r in tf.data.TFRecordDataset(files)]
    assert len(records) == 5
    assert all(tf.io.decode_image(r["image"]).shape[-1] == 3 for r in records)
