"""Evaluations of edits: scores of a copy of the input, of the ground truth and of known edits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from eager_faces import EagerFaces

from tfface.config import Data
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import EXPRESSIONS, render, with_attribute, with_expression
from tfface.evaluation.attributes import evaluate_exchange, evaluate_several
from tfface.evaluation.classifier import Classifier, train_classifier
from tfface.evaluation.exemplars import evaluate_alignment
from tfface.evaluation.expressions import evaluate_expressions
from tfface.evaluation.synthetic_truth import INTENSITY, held_out

SIZE = 32
NAMES = ("Eyeglasses", "Smiling", "Bangs")
PEOPLE = 5


class Oracle(Classifier):
    """Returns the labels of the nearest known image."""

    has_identity = False

    def __init__(self, images, expressions=None, attributes=None):
        super().__init__(None, NAMES, {})
        object.__setattr__(self, "known", (images, expressions, attributes))

    def _nearest(self, images):
        known = self.known[0]
        return [int(np.argmin(np.square(known - i).sum((1, 2, 3)))) for i in np.asarray(images)]

    def expressions(self, images):
        return self.known[1][self._nearest(images)]

    def attributes(self, images):
        return self.known[2][self._nearest(images)]


class ConstantClassifier(Classifier):
    """Predicts a fixed, repeating sequence of expressions or attributes for any images."""

    has_identity = True

    def __init__(self, expressions=None, **attributes):
        super().__init__(None, tuple(attributes), {})
        columns = list(attributes.values())
        object.__setattr__(self, "predictions", (expressions, np.array(columns, bool).T))

    def expressions(self, images):
        return np.resize(self.predictions[0], len(images))

    def attributes(self, images):
        return np.resize(self.predictions[1], (len(images), len(self.names)))

    def similarity(self, a, b):
        return 1 - np.abs(np.asarray(a) - b).mean((1, 2, 3))


class Shown:
    """An observer that keeps all images, by caption."""

    def __init__(self):
        self.parts = {}

    def __call__(self, metric, names, images, scores, roles):
        for caption, batch in images.items():
            self.parts.setdefault(caption, []).append(batch)

    def __getitem__(self, caption):
        return np.concatenate(self.parts[caption])


def draw(factors):
    return render(factors, SIZE)["image"].numpy()


@pytest.fixture(scope="module")
def oracle():
    """An oracle for the evaluated people with their own and with every other expression."""
    people = held_out(PEOPLE, 3)
    images, labels = [draw(people)], [people["expression"].numpy()]
    for index in range(len(EXPRESSIONS)):
        images.append(draw(with_expression(people, index, INTENSITY)))
        labels.append(np.full(PEOPLE, index))
    return Oracle(np.concatenate(images), expressions=np.concatenate(labels))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfface.evaluation.classifier.HELD_OUT", 256)
        return folder, train_classifier(SIZE, NAMES[:2], steps=3, cache=folder)


def test_copy_of_the_input_has_chance_accuracy(oracle):
    found = evaluate_expressions(lambda images, asked: images, SIZE, PEOPLE, 3, oracle)
    json.dumps(found)
    assert found["people"] == PEOPLE
    assert found["edited"] == found["copy"]
    assert found["copy"]["accuracy"] == pytest.approx(1 / 8)
    assert found["copy"]["error_outside"] < 1e-6
    assert found["copy"]["error_inside"] > 0.005
    assert found["copy"]["improved_over_input"] == 0.0
    assert 10 < found["copy"]["psnr"] < 50
    np.testing.assert_allclose(np.sum(found["copy"]["confusion"], axis=1), 1.0)


def test_ground_truth_has_no_error(oracle):
    found = evaluate_expressions(lambda images, asked: images, SIZE, PEOPLE, 3, oracle)["target"]
    assert found["accuracy"] == found["improved_over_input"] == 1.0
    assert set(found["accuracy_by_expression"].values()) == {1.0}
    assert (found["error_outside"], found["error_inside"], found["psnr"]) == (0.0, 0.0, None)


def test_improved_edits_show_the_target_and_are_closer_to_the_ground_truth(oracle):
    people = held_out(PEOPLE, 3)
    truth = np.stack([draw(with_expression(people, i, INTENSITY)) for i in range(8)], 1)
    truth = truth.reshape(-1, SIZE, SIZE, 3)

    def interpolated(share, noise=0.0):
        targets = iter(truth)

        def edit(images, asked):
            return np.stack([x + share * (next(targets) - x) + noise for x in images])

        return evaluate_expressions(edit, SIZE, PEOPLE, 3, oracle)["edited"]

    assert interpolated(0.9)["improved_over_input"] == 1.0
    # Closer to the ground truth, but not judged to show the target expression.
    assert interpolated(0.1)["improved_over_input"] < 0.3
    # Judged to show it, but further from the ground truth.
    far = interpolated(1.0, noise=0.5)
    assert far["accuracy"] > 0.3 and far["improved_over_input"] == 0.0


def gaining(decibels, truths):
    """An edit, or a transfer, that raises the PSNR of each image by the given decibels."""
    left = 10 ** (-np.asarray(decibels) / 20)[:, None, None, None]
    pairs = iter(zip(truths, left, strict=True))

    def edit(images, *_):
        batch = [next(pairs) for _ in images]
        return np.stack([t + f * (x - t) for x, (t, f) in zip(images, batch, strict=True)])

    return edit


def without_second(figures):
    return {
        name: without_second(value) if isinstance(value, dict) else value
        for name, value in figures.items()
        if name != "second"
    }


def test_second_judge_and_half_decibel_margin_for_expressions():
    """The first judge sees all target expressions, the second only the first four of eight."""
    first, second = ConstantClassifier(range(8)), ConstantClassifier([0, 1, 2, 3, 0, 0, 0, 0])
    asked, shown = np.tile(np.arange(8), PEOPLE), Shown()
    options = SIZE, PEOPLE, 3, first, shown, EXPRESSIONS, second
    evaluate_expressions(lambda images, asked: images, *options)
    truth = shown["ground truth"]
    # Inputs that show the target already are not counted as improved or not.
    differs = np.repeat(held_out(PEOPLE, 3)["expression"].numpy(), 8) != asked
    assert differs.mean() == 7 / 8

    def found(decibels):
        return evaluate_expressions(gaining(decibels, truth), *options)

    def share(which):
        return pytest.approx(which[differs].mean())

    every = np.ones(8 * PEOPLE)
    for gain, over, by_half in ((-0.01, 0, 0), (0.01, 1, 0), (0.49, 1, 0), (0.51, 1, 1)):
        edited = found(gain * every)["edited"]
        assert (edited["accuracy"], edited["second"]["accuracy"]) == (1.0, 0.5)
        assert edited["improved_over_input"] == over
        assert edited["improved_by_half_db"] == by_half
        assert edited["second"]["improved_over_input"] == share(over * (asked < 4))
        assert edited["second"]["improved_by_half_db"] == share(by_half * (asked < 4))

    gains = np.where(asked % 2, 0.51, 0.49)
    figures = found(gains)
    alone = evaluate_expressions(gaining(gains, truth), SIZE, PEOPLE, 3, first)
    assert alone["edited"] == without_second(figures["edited"])
    edited = figures["edited"]
    assert edited["improved_by_half_db"] == share(asked % 2)
    assert edited["second"]["improved_by_half_db"] == share((asked % 2 == 1) & (asked < 4))
    low, high = figures["intervals"]["edited"]["second"]["improved_by_half_db"]
    assert low <= edited["second"]["improved_by_half_db"] <= high
    # The baselines have them too.
    assert figures["copy"]["second"] == {
        "accuracy": 0.5, "improved_over_input": 0.0, "improved_by_half_db": 0.0
    }  # fmt: skip
    assert figures["target"]["improved_by_half_db"] == 1.0
    assert figures["target"]["second"]["improved_by_half_db"] == share(asked < 4)


def test_identity_is_compared_with_the_input(oracle):
    shown = Shown()
    judged = ConstantClassifier(range(8))

    def darker(images, asked):
        return images - 0.25

    figures = evaluate_expressions(darker, SIZE, PEOPLE, 3, judged, shown)
    assert "second" not in figures["edited"]
    assert figures["edited"]["identity"] == pytest.approx(0.75)
    assert figures["copy"]["identity"] == 1.0
    far = np.abs(shown["ground truth"] - shown["input"]).mean()
    assert figures["target"]["identity"] == pytest.approx(1 - far) and far > 1e-3
    figures = evaluate_exchange(
        lambda source, reference, attribute: source - 0.25,
        ("Bangs",), SIZE, PEOPLE, 7, ConstantClassifier(Bangs=[False, True]),
    )  # fmt: skip
    assert figures["edited"]["identity"] == pytest.approx(0.75)
    assert figures["edited"]["by_attribute"]["Bangs"]["identity"] == pytest.approx(0.75)
    assert figures["copy"]["identity"] == 1.0
    found = evaluate_expressions(darker, SIZE, PEOPLE, 3, oracle)
    assert "identity" not in found["edited"]


def test_second_judge_for_attributes():
    """The first judge sees all exchanges; the second, with other columns, those of bangs only."""
    # A has lost the attribute, B has gained it.
    first = ConstantClassifier(**{name: [False, True] for name in NAMES})
    second = ConstantClassifier(
        Bangs=[False, True], Smiling=[True, False], Eyeglasses=[True, False]
    )
    shown, pairs = Shown(), 2 * PEOPLE * len(NAMES)
    options = NAMES, SIZE, PEOPLE, 7, first, shown, second
    evaluate_exchange(lambda source, *_: source, *options)
    bangs = np.arange(pairs) >= pairs * 2 // 3
    # Glasses gain less than 0.5 dB, smiles and bangs more.
    gain = np.where(np.arange(pairs) < pairs // 3, 0.49, 0.51)
    figures = evaluate_exchange(gaining(gain, shown["ground truth"]), *options)
    edited = figures["edited"]
    alone = evaluate_exchange(gaining(gain, shown["ground truth"]), *options[:5])
    assert alone["edited"] == without_second(edited)
    assert (edited["right"], edited["improved_over_input"]) == (1.0, 1.0)
    assert edited["improved_by_half_db"] == pytest.approx(2 / 3)
    third = pytest.approx(bangs.mean())
    assert edited["second"] == {
        "right": third, "improved_over_input": third, "improved_by_half_db": third
    }  # fmt: skip
    by_name = edited["by_attribute"]
    assert [by_name[name]["improved_by_half_db"] for name in NAMES] == [0.0, 1.0, 1.0]
    assert [by_name[name]["second"]["right"] for name in NAMES] == [0.0, 0.0, 1.0]
    assert "second" in figures["intervals"]["edited"]
    assert figures["copy"]["second"]["improved_over_input"] == 0.0


def test_errors_are_shares_of_the_value_range(oracle):
    """White images: the mean distance to white, computed manually."""

    def white(images, asked):
        return np.ones_like(images)

    found = evaluate_expressions(white, SIZE, PEOPLE, 3, oracle)["edited"]
    people = held_out(PEOPLE, 3)
    truth = np.stack([draw(with_expression(people, i, INTENSITY)) for i in range(8)])
    mean = np.square((1 - truth) / 2).mean()
    assert found["psnr"] == pytest.approx(-10 * np.log10(mean), abs=1e-3)
    assert min(found["error_inside"], found["error_outside"]) < np.mean((1 - truth) / 2)
    assert max(found["error_inside"], found["error_outside"]) > np.mean((1 - truth) / 2)


def test_held_out_people_depend_on_the_seed():
    a, b, c = (held_out(4, seed)["identity"].numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not set(a) & set(c)
    assert set(a % 3) == {2}  # the split "test"


def exchange_oracle():
    """An oracle for the evaluated pairs, with and without each attribute."""
    images, labels = [], []
    for i, name in enumerate(NAMES):
        for side, value in ((0, True), (1, False)):
            people = held_out(PEOPLE, 7 + 2 * i + side, NAMES, (name, value))
            for shown in (True, False):
                drawn = render(with_attribute(people, name, shown), SIZE, ("image", "attributes"))
                images.append(drawn["image"].numpy())
                labels.append(drawn["attributes"].numpy()[:, _columns()] == 1)
    return Oracle(np.concatenate(images), attributes=np.concatenate(labels))


def _columns():
    from tfface.data.synthetic import ATTRIBUTES

    return [ATTRIBUTES.index(name) for name in NAMES]


def test_exchange_scores_of_copy_and_ground_truth():
    seen = []

    def transfer(source, reference, attribute):
        seen.append((source, reference, attribute))
        return source

    found = evaluate_exchange(transfer, NAMES, SIZE, PEOPLE, 7, exchange_oracle())
    json.dumps(found)
    assert found["pairs"] == PEOPLE
    assert found["edited"] == found["copy"]
    assert (found["copy"]["right"], found["copy"]["others"]) == (0.0, 1.0)
    target = found["target"]
    assert (target["right"], target["others"], target["all_others"]) == (1.0, 1.0, 1.0)
    assert set(target["by_attribute"]) == set(NAMES)
    # The images differ only where the attribute is.
    assert found["copy"]["error_outside"] < 0.002 < 0.02 < found["copy"]["error_inside"]
    assert (target["error"], target["psnr"]) == (0.0, None)
    assert (found["copy"]["improved_over_input"], target["improved_over_input"]) == (0.0, 1.0)
    source, reference, attribute = seen[0]
    np.testing.assert_array_equal(source[::2], reference[1::2])
    np.testing.assert_array_equal(source[1::2], reference[::2])
    assert set(attribute) == {0}


def test_transfer_of_all_attributes_at_once():
    """Scores of a copy of the input and of the ground truth, computed from the same factors."""
    given = []

    def copies(source, reference):
        given.append((source, reference))
        return source

    people = [held_out(PEOPLE, 7 + 2 * len(NAMES) + side, NAMES) for side in (0, 1)]
    for name in NAMES:
        people[0] = with_attribute(people[0], name, False)
        people[1] = with_attribute(people[1], name, True)
    target = people[0]
    for name in NAMES:
        target = with_attribute(target, name, True)
    drawn = [render(some, SIZE, ("image", "attributes")) for some in (*people, target)]
    images = np.concatenate([some["image"] for some in drawn])
    labels = np.concatenate([some["attributes"].numpy()[:, _columns()] == 1 for some in drawn])
    oracle = Oracle(images, attributes=labels)
    found = evaluate_several(copies, NAMES, SIZE, PEOPLE, 7, oracle)
    json.dumps(found)
    for part, expected in zip(given[0], drawn, strict=False):
        np.testing.assert_array_equal(part, expected["image"])
    assert found["several"]["edited"] == found["several"]["copy"]
    for kind, share in (("copy", 0.0), ("target", 1.0)):
        assert found["several"][kind]["all_right"] == share
        assert found["several"][kind]["improved_over_input"] == share
    truth = drawn[2]["image"].numpy()
    found = evaluate_several(lambda *_: 0.9 * truth, NAMES, SIZE, PEOPLE, 7, oracle)["several"]
    assert found["edited"]["all_right"] == found["edited"]["improved_over_input"] == 1.0


def test_classifier_is_cached(tiny):
    folder, made = tiny
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2 and {name.rpartition(".")[2] for name in names} == {"json", "keras"}
    again = train_classifier(SIZE, NAMES[:2], steps=3, cache=folder)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert again.accuracy == made.accuracy
    assert set(made.accuracy) == {"expression", "identity", *NAMES[:2]}
    images = draw(held_out(4, 0))
    np.testing.assert_array_equal(again.expressions(images), made.expressions(images))
    assert again.attributes(images).shape == (4, 2)
    assert again.has_identity
    np.testing.assert_allclose(again.similarity(images, images), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(again.identities(images), made.identities(images))

    # A second judge is another network, and is cached beside the first.
    options = {"steps": 3, "cache": folder, "architecture": "residual"}
    second, again = (train_classifier(SIZE, NAMES[:2], **options) for _ in range(2))
    assert len(set(folder.iterdir())) == 2 * len(names)
    assert [w.shape for w in second.model.weights] != [w.shape for w in made.model.weights]
    np.testing.assert_array_equal(again.identities(images), second.identities(images))
    assert second.identities(images).shape == made.identities(images).shape
    assert set(second.accuracy) == set(made.accuracy)


def test_classifier_training_is_deterministic(tiny, monkeypatch):
    monkeypatch.setattr("tfface.evaluation.classifier.HELD_OUT", 256)
    again = train_classifier(SIZE, NAMES[:2], steps=3)
    for a, b in zip(again.model.weights, tiny[1].model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# Alignment.

PAIRS = 32


FACES = EagerFaces(Data(size=SIZE))


def the_pairs(seed):
    """Label maps, exemplars and ground truth of the evaluated pairs."""
    batches = EagerFaces(Data(size=SIZE)).exemplars("test", 16, seed=seed).take(PAIRS // 16)
    return [
        np.concatenate([batch[name] for batch in batches])
        for name in ("label_map", "exemplar", "image")
    ]


def half(images):
    images = np.asarray(images)
    return images.reshape(len(images), SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))


def double(images):
    return images.repeat(2, 1).repeat(2, 2)


def copies(batch):
    return batch["exemplar"], half(batch["exemplar"])


def test_generating_the_ground_truth_has_no_error():
    labels, exemplars, targets = the_pairs(4)
    requested = []

    def generate(batch):
        pairs = zip(batch["label_map"].numpy(), batch["exemplar"].numpy(), strict=True)
        for label_map, exemplar in pairs:
            (at,) = np.flatnonzero((labels == label_map).all((1, 2)))
            np.testing.assert_array_equal(exemplars[at], exemplar)
            requested.append(at)
        images = targets[requested[-len(batch["image"]) :]]
        return images, half(images)

    found = evaluate_alignment(generate, FACES, PAIRS, 4)
    assert requested == list(range(PAIRS)) and found["pairs"] == PAIRS
    assert found["generated"]["error"] == 0.0
    # At half the size even the ground truth loses detail.
    expected = np.abs(double(half(targets)) - targets).mean() / 2
    assert found["warped"]["error"] == pytest.approx(expected, rel=1e-4) and expected > 0.005
    assert found["copy"]["error"] > 2 * expected
    target = found["target"]
    assert target["error"] == 0.0 and target["psnr"] is None
    assert set(target["error_by_region"].values()) == {0.0}


def test_errors_are_reported_by_region():
    """Eyes with an error of half of the value range."""
    eyes = [CLASSES_19.index(name) for name in ("l_eye", "r_eye")]

    def generate(batch):
        images = batch["image"].numpy()
        inside = np.isin(batch["label_map"].numpy(), eyes)
        return np.where(inside[..., None], images - 1.0, images), half(images)

    found = evaluate_alignment(generate, FACES, 8, 4)["generated"]["error_by_region"]
    assert found.pop("eyes") == pytest.approx(0.5)
    assert set(found.values()) == {0.0} and "skin" in found


def test_generating_the_exemplar_scores_like_the_copy():
    _, exemplars, targets = the_pairs(4)
    found = evaluate_alignment(copies, FACES, PAIRS, 4)
    json.dumps(found, allow_nan=False)
    assert found["generated"] == found["copy"]
    error = (exemplars - targets) / 2
    assert found["copy"]["error"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    psnr = -10 * np.log10(np.square(error).mean())
    assert found["copy"]["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert found["warped"]["error"] != found["copy"]["error"]


def test_alignment_pairs_depend_on_the_seed():
    first, again, other = (evaluate_alignment(copies, FACES, 16, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["copy"] != other["copy"]
