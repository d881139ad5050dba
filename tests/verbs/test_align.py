"""`tfface.align` and `tfface.edit --align`, on built-in faces and scikit-image's astronaut."""

import asyncio
import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from scenes import SIZE, scene
from skimage.data import astronaut

import tfface
from tfface import align, edit
from tfface.client import AsyncFaceClient, FaceClient
from tfface.config import Data
from tfface.data import open_source
from tfface.data.alignment import find_faces, to_crop
from tfface.data.images import load_image
from tfface.errors import UserError
from tfface.exporting.saved_model import _save
from tfface.server.app import Server

MODEL = "sargan/faces64"


def failure(capsys, main, *argv):
    """The message of a command that fails, which is its last line."""
    assert main([str(a) for a in argv]) == 2
    *rest, line = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(rest)
    return line.partition("error: ")[2]


# Aligned faces for training.


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs in class folders, and files that cannot be used."""
    root = tmp_path_factory.mktemp("photos")
    astronaut_ = Image.fromarray(astronaut())
    for name in ("happy", "sad"):
        (root / name).mkdir()
    astronaut_.save(root / "happy" / "a.jpg")
    astronaut_.rotate(20).save(root / "happy" / "a.png")
    scene()[0].save(root / "happy" / "two.png")
    astronaut_.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "sad" / "b.JPG")
    Image.new("RGB", (200, 200), "green").save(root / "sad" / "meadow.png")
    astronaut_.resize((120, 120)).save(root / "sad" / "far.png")
    (root / "sad" / "broken.jpg").write_bytes(b"no image")
    (root / "notes.txt").write_text("notes")
    (root / ".hidden.jpg").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def faces(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "faces"
    assert align.main([str(photos), str(out), "--crop", "celeba_hq", "--size", "96"]) == 0
    return out


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


USED = ["happy/a_jpg.png", "happy/a_png.png", "happy/two.png", "sad/b.png"]


def test_the_result_has_the_folders_of_the_photographs(faces):
    assert files(faces) == sorted([*USED, "alignment.json", "unused.csv"])
    for name in USED:
        face = load_image(faces / name)
        assert face.size == (96, 96)
        [found] = find_faces(face.resize((384, 384)))
        places = to_crop(found.landmarks, "celeba_hq")
        corners = places(np.array([[-0.5, -0.5], [383.5, 383.5]]))
        np.testing.assert_allclose(corners, [[0, 0], [1, 1]], atol=0.08)


def test_every_unused_file_is_listed_with_its_reason(faces):
    with open(faces / "unused.csv") as file:
        rows = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == {
        ".hidden.jpg", "notes.txt", "sad/broken.jpg", "sad/far.png", "sad/meadow.png"
    }  # fmt: skip
    assert rows["sad/meadow.png"] == "no face" and rows["notes.txt"] == "with .txt"
    assert rows["sad/broken.jpg"].startswith("unreadable: not an image")
    assert "too small" in rows["sad/far.png"] and "at least 48" in rows["sad/far.png"]


def test_class_folders_of_faces_are_a_data_set(faces):
    source = open_source(Data("folder", str(faces), size=32, crop="celeba_hq"))
    assert source.classes == ("happy", "sad") and source.count("train") == 4
    assert not source.unused


def test_a_repeated_command_writes_only_what_is_missing(photos, faces, tmp_path, capsys):
    out = tmp_path / "faces"
    shutil.copytree(faces, out)
    (out / "sad" / "b.png").unlink()
    before = {name: (out / name).stat().st_mtime_ns for name in USED if name != "sad/b.png"}
    assert align.main([str(photos), str(out), "--crop", "celeba_hq", "--size", "96"]) == 0
    printed = capsys.readouterr().out
    assert "wrote 1 face" in printed and "3 were there before" in printed
    assert "1 no face: sad/meadow.png" in printed and "1 unreadable: sad/broken.jpg" in printed
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert (out / "sad" / "b.png").read_bytes() == (faces / "sad" / "b.png").read_bytes()
    assert files(out) == files(faces)


def test_mistakes_are_named(photos, faces, tmp_path, capsys):
    message = failure(capsys, align.main, photos, faces, "--size", "64")
    assert "--crop celeba_hq --size 96" in message
    assert "no such folder" in failure(capsys, align.main, tmp_path / "none", tmp_path / "out")
    assert "another folder" in failure(capsys, align.main, photos, photos)
    assert "not from tfface.align" in failure(capsys, align.main, photos, tmp_path.parent)
    assert "'16'" in failure(capsys, align.main, photos, tmp_path / "out", "--size", "16")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no images" in failure(capsys, align.main, empty, tmp_path / "new")
    Image.new("RGB", (99, 99)).save(empty / "black.png")
    assert "no face could be used" in failure(capsys, align.main, empty, tmp_path / "new")


# Edits of photographs.


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    scene()[0].save(path)
    return path


def regions(number):
    """Where the crop of a face is, and where the other face is: two bool [H,W]."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    points = np.stack([x.ravel(), y.ravel()], -1)
    found = find_faces(scene()[0])
    inside = [
        (np.abs(to_crop(face.landmarks, "synthetic")(points) - 0.5) < 0.5).all(-1).reshape(x.shape)
        for face in found
    ]
    return inside[number - 1], inside[2 - number]


def changed(result, before):
    return np.abs(np.asarray(result, int) - np.asarray(before, int)).max(-1)


def check_edit(result, number):
    """The edit changes the face, and not a bit outside of its crop."""
    face, other = regions(number)
    change = changed(result, scene()[0])
    assert result.size == SIZE
    assert not change[~face].any() and other[~face].sum() > 0.9 * other.sum()
    assert change[face].max() > 30


@pytest.mark.parametrize("number", [1, 2])
def test_edit_changes_one_face_of_a_photograph(photograph, tmp_path, capsys, number):
    words = ["--face", str(number)] if number > 1 else []
    argv = [MODEL, str(photograph), "--align", *words, "--expression", "surprised", "--grid"]
    assert edit.main([*argv, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "2 faces" in printed and f"face {number} is edited" in printed and "--face" in printed
    result = load_image(tmp_path / "scene-surprised.png")
    check_edit(result, number)
    [rows] = [tfface.load(MODEL).edit(photograph, align=True, face=number, expression="surprised")]
    assert not changed(rows["surprised"], result).any()
    assert load_image(tmp_path / "grid.png").width > 2 * 128


def test_the_edited_face_shows_the_expression(photograph):
    """An edit of the aligned face is that of the same face drawn upright."""
    trained = tfface.load(MODEL)
    result = trained.edit(photograph, align=True, expression="surprised")["surprised"]
    client = FaceClient("in process", transport=trained.client._transport, align=True)
    face = client.aligned(photograph).face
    upright = trained.edit(face.crop, expression="surprised")["surprised"]
    middle = slice(face.crop.width // 5, -face.crop.width // 5)
    found = np.asarray(face.cut(result), int)[middle, middle]
    expected = np.asarray(upright, int)[middle, middle]
    untouched = np.asarray(face.crop, int)[middle, middle]
    assert np.abs(found - expected).mean() < 0.3 * np.abs(expected - untouched).mean()


def test_photographs_without_the_face_are_skipped_by_name(photograph, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photograph, folder / "scene.png")
    Image.new("RGB", (300, 200), "green").save(folder / "meadow.png")
    argv = [MODEL, folder, "--align", "--expression", "sad", "--out", tmp_path / "out"]
    message = failure(capsys, edit.main, *argv)
    assert "1 of 2" in message and files(tmp_path / "out") == ["scene-sad.png"]
    message = failure(capsys, edit.main, MODEL, folder / "meadow.png", *argv[2:])
    assert "meadow.png: no face was found" in message
    message = failure(capsys, edit.main, MODEL, photograph, *argv[2:], "--face", "3")
    assert "no face 3" in message and "2 faces" in message


def test_options_of_alignment_are_checked(photograph, tmp_path, capsys):
    for words, expected in [
        (["--face", "2"], "--face needs --align"),
        (["--crop", "celeba"], "--crop needs --align"),
        (["--align", "--face", "0"], "'0': expected a number of at least 1"),
        (["--align", "--crop", "celebb"], "celebb"),
    ]:
        assert expected in failure(capsys, edit.main, MODEL, photograph, *words)
    with pytest.raises(UserError, match="face is 0"):
        FaceClient(face=0)
    with pytest.raises(UserError, match="'celebb'.*celeba"):
        FaceClient(align="celebb")


def test_references_are_aligned_and_the_largest_face_is_used(photograph):
    """The second face is edited with the first face of the reference."""
    trained = tfface.load("elegant/faces64")
    options = {"attribute": trained.method.labels[0], "reference": str(photograph)}
    [result] = trained.edit(photograph, align=True, face=2, **options).values()
    face, _ = regions(2)
    change = changed(result, scene()[0])
    assert not change[~face].any() and change[face].any()


# Through a server.


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address of a server with the model `faces`, and with `plain`, which states no crop."""
    root = tmp_path_factory.mktemp("models")
    trained = tfface.load(MODEL)
    _save(trained, root / "faces" / "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfface.methods.trained.crop_of", lambda _: None)
        _save(trained, root / "plain" / "1")
    servers = [Server(root / n, model_name=n, warm_up=False).start() for n in ("faces", "plain")]
    yield [f"127.0.0.1:{server.port}" for server in servers]
    for server in servers:
        server.stop()


@pytest.mark.slow
def test_a_server_edits_photographs_like_the_run(served, photograph, tmp_path):
    argv = [str(photograph), "--align", "--expression", "surprised", "--out", str(tmp_path)]
    assert edit.main(["--server", served[0], "--model", "faces", *argv]) == 0
    result = load_image(tmp_path / "scene-surprised.png")
    check_edit(result, 1)
    expected = tfface.load(MODEL).edit(photograph, align=True, expression="surprised")
    assert changed(result, expected["surprised"]).max() <= 4


@pytest.mark.slow
def test_clients_align_lists_of_photographs(served, photograph):
    image = scene()[0]
    names = ["happy", "surprised"]

    async def both():
        async with AsyncFaceClient(served[0], "faces", align=True) as client:
            about = await client.about()
            return about.crop, await client.change_expression([photograph, image], names)

    crop, by_async = asyncio.run(both())
    assert crop == "synthetic"
    with FaceClient(served[0], "faces", align="synthetic") as client:
        results = client.change_expression([photograph, client.aligned(image)], names)
    for result, other in zip(results, by_async, strict=True):
        check_edit(result, 1)
        assert not changed(result, other).any()


@pytest.mark.slow
def test_a_model_that_states_no_crop_needs_its_name(served, photograph, tmp_path, capsys):
    with FaceClient(served[1], "plain", align=True) as client:
        assert client.about().crop is None
        with pytest.raises(UserError, match="plain.*does not state the crop.*align='celeba'"):
            client.change_expression(photograph, "happy")
    argv = ["--server", served[1], "--model", "plain", photograph, "--align", "--out", tmp_path]
    message = failure(capsys, edit.main, *argv, "--expression", "happy")
    assert "plain" in message and "--crop" in message and "celeba_hq" in message
    argv = [str(a) for a in (*argv, "--expression", "happy", "--crop", "synthetic")]
    assert edit.main(argv) == 0
    check_edit(load_image(tmp_path / "scene-happy.png"), 1)
