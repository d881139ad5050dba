"""`tfface.edit` on runs with random weights."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_runs import ATTRIBUTES, CLASSES, face, write_tiny_run

import tfface
from tfface.data.images import face_box, load_image, to_array
from tfface.data.label_map_ops import example_labels
from tfface.data.label_maps import colour, save_colours, save_label_map, to_labels
from tfface.edit import main

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("edit")
    write_tiny_run(root / "sargan", "sargan", classes=list(CLASSES))
    write_tiny_run(root / "elegant", "elegant", attributes=list(ATTRIBUTES))
    for i, size in enumerate([(50, 70), (90, 60), (64, 64), (48, 48)]):
        face(i, *size).save(root / f"face{i}.png")
    return root


@pytest.fixture(scope="module", params=["sargan", "elegant"])
def trained(root, request):
    return tfface.load(str(root / request.param))


def edit(root, tmp_path, method, *options, source="face0.png", status=0):
    out = tmp_path / "out"
    words = [str(root / w) if w.startswith("face") else str(w) for w in options]
    found = main([str(root / method), str(root / source), "--out", str(out), *words])
    assert found == status
    return {p.name: load_image(p) for p in sorted(out.iterdir())} if out.exists() else {}


def failure(capsys, root, *argv):
    """The message of a command that fails."""
    assert main([str(a) for a in argv]) == 2
    *rest, message = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(rest) and message.startswith("tfface.edit: error: ")
    return message


def differs(a, b):
    return np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max() > 2


@pytest.mark.parametrize("options", [[], ["--expression", "all"]])
def test_every_expression_is_written_by_default(root, tmp_path, options):
    images = edit(root, tmp_path, "sargan", *options)
    assert list(images) == [f"face0-{name}.png" for name in CLASSES]
    assert differs(images["face0-happy.png"], images["face0-sad.png"])


def test_only_the_requested_expressions_are_written(root, tmp_path):
    images = edit(root, tmp_path, "sargan", "--expression", "sad", "happy", source="face1.png")
    assert set(images) == {"face1-sad.png", "face1-happy.png"}
    assert images["face1-sad.png"].size == (90, 60)


def options_of(trained):
    if trained.name == "sargan":
        return {"expression": ["sad"]}
    return {"attribute": ["Smiling"], "reference": [face(9, 40, 40)]}


@pytest.mark.parametrize("size", [(50, 70), (90, 60), (64, 64)])
def test_size_and_pixels_outside_the_face_box_are_unchanged(trained, size):
    image = face(5, *size)
    [[[(_, edited)]]] = trained.editor(options_of(trained)).edit([image])
    assert edited.size == size
    left, upper, right, lower = face_box(*size)
    before, after = np.asarray(image), np.asarray(edited)
    outside = np.ones(before.shape[:2], bool)
    outside[upper:lower, left:right] = False
    np.testing.assert_array_equal(after[outside], before[outside])
    assert differs(after[~outside], before[~outside])


def test_an_edit_does_not_depend_on_the_other_images_of_a_batch(trained):
    images = [face(i, 40 + i, 50) for i in range(3)]
    together = trained.editor(options_of(trained)).edit(images)
    for image, rows in zip(images, together, strict=True):
        [[[(_, alone)]]] = trained.editor(options_of(trained)).edit([image])
        assert np.abs(np.asarray(alone, int) - np.asarray(rows[0][0][1], int)).max() <= 1


def test_an_edit_at_the_networks_size_is_the_generators_output(root):
    trained = tfface.load(str(root / "sargan"))
    face_image = face(7, 32, 32)  # The networks' size: nothing is resized.
    [[[(name, edited)]]] = trained.editor({"expression": ["sad"]}).edit([face_image])
    image = to_array(face_image, 32)[None]
    label = np.eye(3, dtype=np.float32)[[2]]
    expected = np.clip(trained.nets["generator"]([image, label]), -1, 1)[0]
    assert name == "sad"
    assert np.abs(np.asarray(edited) - (expected + 1) * 127.5).max() <= 1


def test_attribute_transfer_writes_one_image_per_reference(root, tmp_path):
    images = edit(
        root, tmp_path, "elegant", "--attribute", "Smiling", "--reference", "face1.png"
    )  # fmt: skip
    assert list(images) == ["face0-Smiling-1.png"]


def test_strengths_are_columns_and_references_rows(root, tmp_path):
    made = edit(
        root, tmp_path, "elegant", "--attribute", "Smiling",
        "--reference", "face1.png", "face2.png", "--strength", "0", "0.5", "1",
    )  # fmt: skip
    assert set(made) == {f"face0-Smiling-{r}-{s}.png" for r in (1, 2) for s in ("0", "0.5", "1")}
    # Strength 0 is the reconstruction, for any reference.
    assert not differs(made["face0-Smiling-1-0.png"], made["face0-Smiling-2-0.png"])
    assert differs(made["face0-Smiling-1-1.png"], made["face0-Smiling-2-1.png"])
    ends = [np.asarray(made[f"face0-Smiling-1-{s}.png"], int) for s in ("0", "0.5", "1")]
    assert differs(ends[0], ends[1]) and differs(ends[1], ends[2])


def test_a_matrix_interpolates_between_three_references(root, tmp_path):
    references = [f"face{i}.png" for i in (1, 2, 3)]
    made = edit(
        root, tmp_path, "elegant", "--attribute", "Smiling", "--reference", *references,
        "--matrix", "3", "--grid",
    )  # fmt: skip
    grid = made.pop("grid.png")
    assert set(made) == {f"face0-Smiling-{r}-{c}.png" for r in (1, 2, 3) for c in (1, 2, 3)}
    assert min(grid.size) > 3 * 128  # Rows of the matrix, each with the input.
    corners = {(1, 1): 0, (1, 3): 1, (3, 1): 2, (3, 3): 3}
    trained = tfface.load(str(root / "elegant"))
    image = load_image(root / "face0.png")
    for (row, column), reference in corners.items():
        options = {
            "attribute": ["Smiling"],
            "reference": [load_image(root / f"face{max(reference, 1)}.png")],
            "strength": [float(reference > 0)],
        }
        [[[(_, expected)]]] = trained.editor(options).edit([image])
        assert not differs(made[f"face0-Smiling-{row}-{column}.png"], expected)


def test_a_matrix_interpolates_between_two_attributes(root, tmp_path):
    made = edit(
        root, tmp_path, "elegant", "--attribute", "Smiling", "Eyeglasses",
        "--reference", "face1.png", "face2.png", "--matrix", "2",
    )  # fmt: skip
    name = "face0-Smiling-Eyeglasses"
    assert set(made) == {f"{name}-{r}-{c}.png" for r in (1, 2) for c in (1, 2)}
    trained = tfface.load(str(root / "elegant"))
    image = load_image(root / "face0.png")
    for attribute, reference, cell in (("Smiling", 1, "1-2"), ("Eyeglasses", 2, "2-1")):
        options = {
            "attribute": [attribute],
            "reference": [load_image(root / f"face{reference}.png")],
        }
        [[[(_, expected)]]] = trained.editor(options).edit([image])
        assert not differs(made[f"{name}-{cell}.png"], expected)


def test_several_attributes_are_transferred_together(root, tmp_path):
    options = ["--attribute", "Smiling", "Eyeglasses", "--reference", "face1.png"]
    strengths = ["--strength", "0.5", "1"]
    made = edit(root, tmp_path / "two", "elegant", *options, "face2.png", *strengths)
    assert list(made) == [f"face0-Smiling+Eyeglasses-{s}.png" for s in ("0.5", "1")]
    matrix = edit(root, tmp_path / "matrix", "elegant", *options, "face2.png", "--matrix", "3")
    for strength, cell in (("0.5", "2-2"), ("1", "3-3")):
        expected = matrix[f"face0-Smiling-Eyeglasses-{cell}.png"]
        # In the centre of the matrix both attributes have strength 0.5, as here.
        assert not differs(made[f"face0-Smiling+Eyeglasses-{strength}.png"], expected)
    one = edit(root, tmp_path / "one", "elegant", *options)
    twice = edit(root, tmp_path / "twice", "elegant", *options, "face1.png")
    [name] = one
    assert name == "face0-Smiling+Eyeglasses-1.png" and not differs(one[name], twice[name])
    assert differs(one[name], made[name])


def test_unreadable_images_of_a_folder_are_skipped_with_status_2(root, tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    face(1, 40, 50).save(folder / "a.png")
    face(2, 40, 50).save(folder / "b.jpg")
    face(3, 60, 50).save(folder / "b.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 not an image")
    made = edit(root, tmp_path, "sargan", "--expression", "sad", "--grid", source=folder, status=2)
    assert set(made) == {"a-sad.png", "b_jpg-sad.png", "b_png-sad.png", "grid.png"}
    error = capsys.readouterr().err
    assert "skipped:" in error and "bad.jpg" in error
    assert "1 of 4 images were skipped" in error


def test_a_single_unreadable_image_is_an_error_that_names_the_file(root, tmp_path, capsys):
    face(0, 15, 15).save(tmp_path / "small.png")
    face(0, 500, 20).save(tmp_path / "long.png")
    (tmp_path / "bad.png").write_bytes(b"garbage")
    run = root / "sargan"
    for name, expected in {
        "small.png": "15x15 is not the shape of a face image",
        "long.png": "500x20 is not the shape of a face image",
        "bad.png": "not an image",
        "missing.png": "no such file",
    }.items():
        message = failure(capsys, root, run, tmp_path / name, "--out", tmp_path / "out")
        assert name in message and expected in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("sargan", ["--strength", "1"], "--strength is not an option of sargan; its options: expr"),
        ("sargan", ["--expression", "hapy"], "no expression 'hapy'; perhaps you mean 'happy'"),
        ("elegant", ["--expression", "happy"], "--expression is not an option of elegant"),
        ("elegant", [], "--reference is missing"),
        ("elegant", ["--reference", "face1.png"], "--attribute is missing: expected one of Ey"),
        ("elegant", ["--reference", "face1.png", "--attribute", "Smilng"], "mean 'Smiling'"),
        (
            "elegant",
            ["--reference", *["face1.png"] * 3, "--attribute", *ATTRIBUTES],
            "3 references for 2 attributes: expected 2, one for each in order, or 1 for all of",
        ),
        (
            "elegant",
            ["--reference", "face1.png", "--attribute", "Smiling", "--matrix", "3"],
            "received 1 and 1",
        ),
        (
            "elegant",
            ["--reference", *["face1.png"] * 3, "--attribute", "Smiling", "--matrix", "1"],
            "at least 2",
        ),
        (
            "elegant",
            ["--reference", *["face1.png"] * 3, "--attribute", "Smiling", "--matrix", "2",
             "--strength", "1"],
            "--strength cannot be combined with a matrix",
        ),
        ("elegant", ["--reference", "facing.png", "--attribute", "Smiling"], "no such file"),
    ],
)  # fmt: skip
def test_unsuitable_options_are_errors_that_name_the_flag(
    root, capsys, tmp_path, method, options, expected
):
    words = [root / w if w.startswith("fac") else w for w in options]
    message = failure(
        capsys, root, root / method, root / "face0.png", "--out", tmp_path / "out", *words
    )
    assert expected in message
    assert not (tmp_path / "out").exists()


def test_a_missing_run_checkpoint_or_image_is_an_error(root, capsys, tmp_path):
    image = root / "face0.png"
    assert "no such run folder" in failure(capsys, root, tmp_path / "none", image)
    assert "is not a run folder" in failure(capsys, root, tmp_path, image)
    assert "has no checkpoint of step 5; available: 0" in failure(
        capsys, root, root / "sargan", image, "--step", "5"
    )
    assert "no such file" in failure(capsys, root, root / "sargan", tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    assert "has no images" in failure(capsys, root, root / "sargan", tmp_path / "empty")


def test_loading_a_run_uses_its_averaged_weights(tmp_path):
    """A run contains the latest and the averaged weights; the averaged ones are loaded."""
    trained = write_tiny_run(tmp_path / "run", "sargan", classes=list(CLASSES))
    assert trained.method.config.train.ema_half_life > 0
    from tfface.engine.checkpoint import Checkpoints
    from tfface.engine.load import averaged

    nets = trained.method.build()
    averages = averaged(trained.method, nets)
    for variable in averages["generator"].trainable_variables:
        variable.assign(tf.ones_like(variable) * 0.25)
    Checkpoints(tmp_path / "run/checkpoints", nets, averages).save(7)
    loaded = tfface.load(str(tmp_path / "run"))
    assert loaded.step == 7
    assert all((v.numpy() == 0.25).all() for v in loaded.nets["generator"].trainable_variables)
    assert any((v.numpy() != 0.25).any() for v in loaded.nets["discriminator"].variables)


# Faces generated from label maps.


@pytest.fixture(scope="module")
def aligned(root):
    """A run that takes label maps, and a label map; the networks' images have 32 pixels."""
    run = write_tiny_run(root / "aligned", "domain_alignment")
    save_label_map(plain_face(48), root / "map.png")
    return run


def plain_face(size, width=None):
    return example_labels(size).numpy()[0][:, :width]


def generate(root, tmp_path, condition, *options, status=0):
    """Generates faces from a label map or a folder of them; returns the files written."""
    out = tmp_path / "out"
    words = [str(root / w) if w.startswith("face") else str(w) for w in options]
    argv = [str(root / "aligned"), "--condition", str(condition), "--out", str(out), *words]
    assert main(argv) == status
    return {p.name: load_image(p) for p in sorted(out.iterdir())} if out.exists() else {}


def test_each_exemplar_gives_a_face_for_a_label_map(root, aligned, tmp_path):
    # Of the networks' size: random weights would amplify rounding errors of resizing.
    exemplars = [face(8, 32, 32), face(9, 32, 32)]
    files = [tmp_path / "face-a.png", tmp_path / "face-b.png"]
    for exemplar, file in zip(exemplars, files, strict=True):
        exemplar.save(file)
    made = generate(root, tmp_path, root / "map.png", "--exemplar", *map(str, files), "--grid")
    grid = made.pop("grid.png")
    assert list(made) == ["map-face-1.png", "map-face-2.png"]
    assert all(image.size == (32, 32) for image in made.values())
    assert differs(made["map-face-1.png"], made["map-face-2.png"])
    assert min(grid.size) >= 128 and grid.width > 3 * 128  # The label map and two faces.
    labels = to_labels(plain_face(48), 32)[None]
    for i, exemplar in enumerate(exemplars, 1):
        exemplar = to_array(exemplar, 32)[None]
        encoded = aligned.method.encode(tf.constant(labels))
        expected = aligned.method.generate(aligned.nets, encoded, tf.constant(exemplar))["image"][0]
        assert np.abs(np.asarray(made[f"map-face-{i}.png"]) - (expected + 1) * 127.5).max() <= 1


def test_the_grid_shows_label_maps_in_class_colours(root, aligned, tmp_path):
    made = generate(root, tmp_path, root / "map.png", "--exemplar", "face1.png", "--grid")
    assert list(made) == ["grid.png", "map-face.png"]
    shown = {tuple(c) for c in np.asarray(made["grid.png"]).reshape(-1, 3)}
    assert {tuple(c) for c in colour(plain_face(48)[12:36:4, 12:36:4]).reshape(-1, 3)} <= shown


def test_label_maps_of_a_folder_may_have_ids_or_colours_and_any_shape(
    root, aligned, tmp_path, capsys
):
    """Ids and colours give the same face; other shapes are cropped; unreadable files are named."""
    folder = tmp_path / "maps"
    folder.mkdir()
    save_label_map(plain_face(48), folder / "a.png")
    save_colours(plain_face(48), folder / "b.png")
    save_label_map(plain_face(48, width=40), folder / "c.png")
    Image.fromarray(colour(plain_face(48))).save(folder / "d.jpg")
    made = generate(root, tmp_path, folder, "--exemplar", "face1.png", status=2)
    assert set(made) == {"a-face.png", "b-face.png", "c-face.png"}
    assert all(image.size == (32, 32) for image in made.values())
    assert not differs(made["a-face.png"], made["b-face.png"])
    assert differs(made["a-face.png"], made["c-face.png"])
    error = capsys.readouterr().err
    assert "d.jpg: not a PNG" in error and "1 of 4 images were skipped" in error


def test_a_face_does_not_depend_on_the_other_label_maps_of_a_batch(aligned):
    maps = [plain_face(40 + i) for i in range(3)]
    options = {"exemplar": [face(9, 40, 40)]}
    together = aligned.editor(options).edit(maps)
    for labels, rows in zip(maps, together, strict=True):
        [[[(name, alone)]]] = aligned.editor(options).edit([labels])
        assert name == "face"
        assert np.abs(np.asarray(alone, int) - np.asarray(rows[0][0][1], int)).max() <= 1


def refused(capsys, *argv):
    """The stderr of a command that fails."""
    assert main([str(a) for a in argv]) == 2
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error and error.splitlines()[-1].startswith("tfface.edit: error: ")
    return error


@pytest.mark.usefixtures("aligned")
def test_an_unreadable_label_map_is_an_error_that_names_the_file(root, tmp_path, capsys):
    labels = plain_face(48)
    Image.fromarray(np.where(labels == 1, 255, 0).astype(np.uint8)).save(tmp_path / "skin.png")
    Image.fromarray(colour(labels)).save(tmp_path / "map.jpg")
    Image.fromarray(labels[:10].astype(np.uint8)).save(tmp_path / "flat.png")
    (tmp_path / "bad.png").write_bytes(b"garbage")
    out = ["--out", tmp_path / "out", "--exemplar", root / "face1.png"]
    for name, expected in {
        "skin.png": "expected a label map",
        "map.jpg": "not a PNG",
        "flat.png": "48x10 is not the shape of a face image",
        "bad.png": "bad.png: not a",
        "missing.png": "no such file",
    }.items():
        error = refused(capsys, root / "aligned", "--condition", tmp_path / name, *out)
        assert name in error and expected in error
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("aligned")
def test_an_input_that_does_not_fit_the_method_is_an_error(root, tmp_path, capsys):
    image, labels = root / "face0.png", ["--condition", root / "map.png"]
    for argv, expected in {
        ("aligned",): "expected either images to edit, or --condition with a label map",
        ("aligned", image, *labels): "expected either images to edit, or --condition",
        ("sargan",): "expected either images to edit, or --condition",
        ("sargan", *labels): "is a run of sargan, which needs an image to edit",
        ("aligned", image, "--exemplar", image): "is a run of domain_alignment, which needs "
        "--condition",
        ("aligned", *labels): "--exemplar is missing: expected a face",
        ("aligned", *labels, "--exemplar", root / "none.png"): "none.png: no such file",
        ("aligned", *labels, "--expression", "happy"): "--expression is not an option of "
        "domain_alignment; its options: exemplar",
        ("sargan", image, "--exemplar", image): "--exemplar is not an option of sargan",
    }.items():
        message = failure(capsys, root, root / argv[0], *argv[1:], "--out", tmp_path / "out")
        assert expected in message, argv
    assert not (tmp_path / "out").exists()
