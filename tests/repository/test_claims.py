"""`benchmarks/claims.py`: its statistics, its page, and one claim from nothing."""

import contextlib
import json
from pathlib import Path

import claims
import experiments
import numpy as np
import pytest
from experiments import CLAIMS

from tfface.methods import METHODS
from tfface.metrics.bootstrap import ImageRoles

ROOT = Path(__file__).parents[2]
EDIT = ImageRoles(("edited",), "input", "truth")


def values(effect, of_seeds=0.0, of_people=1.0, seeds=5, people=64, seed=0):
    """Values of both sides [seeds,people]; the control's are larger by about `effect`."""
    random = np.random.default_rng(seed)
    person = random.normal(0, of_people, (1, people))
    sides = [
        person + random.normal(0, of_seeds, (seeds, 1)) + random.normal(0, 0.1, (seeds, people))
        for _ in range(2)
    ]
    return sides[0], sides[1] + effect


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [(1.0, "holds here"), (-1.0, "does not hold here"), (0.0, "inconclusive")],
)
def test_verdicts_follow_the_interval(effect, verdict):
    found = claims.difference(*values(effect, of_seeds=0.1))
    assert found.verdict == verdict and found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(effect, abs=0.3)


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    # Differences between seeds dominate, as between trainings; few seeds.
    held = [
        found.low <= 0.5 <= found.high
        for i in range(200)
        for found in [claims.difference(*values(0.5, of_seeds=0.3, seed=i))]
    ]
    assert 0.9 <= np.mean(held) <= 1.0


def test_people_whom_all_runs_find_hard_do_not_widen_the_interval():
    easy, hard = (claims.difference(*values(1.0, 0.1, of_people=p)) for p in (0.0, 50.0))
    assert hard.high - hard.low == pytest.approx(easy.high - easy.low, rel=0.3)


def test_the_detectable_difference_is_told_in_most_experiments():
    size = np.median([claims.difference(*values(0.0, 0.2, seed=i)).detectable for i in range(50)])
    told = [claims.difference(*values(size, 0.2, seed=i)).low > 0 for i in range(100)]
    assert 0.6 <= np.mean(told) <= 1.0


def test_one_seed_tells_nothing():
    with pytest.raises(ValueError, match=r"shape \(1, 64\)"):
        claims.difference(*values(1.0, seeds=1))


def test_change_outside_counts_what_the_truth_keeps():
    source = np.zeros((2, 4, 4, 3), np.float32)
    truth, edited = source.copy(), source.copy()
    truth[:, 0] = 1.0
    edited[:, 0] = -1.0  # Wrong, but where something has to change.
    edited[1, 1] = 0.5  # A quarter of the range in 4 of the 12 pixels that should stay.
    images = {"input": source, "truth": truth, "edited": edited}
    np.testing.assert_allclose(experiments.change_outside(images, EDIT), [0, 25 / 3], rtol=1e-6)
    np.testing.assert_allclose(experiments.error(images, EDIT), [25, 31.25])
    assert experiments.change_outside(images, ImageRoles(("edited",))) is None


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.method}-{claim.name}")
def test_claims_have_known_options(claim):
    from tfface.config import from_preset
    from tfface.methods import get_config

    for side in claims.SIDES:
        source, of = claims.trained_for(claim, side)
        assert not getattr(source, of).runs
        options = {**source.options, **getattr(source, of).options}
        config = from_preset(claim.method, get_config(claim.method), "demo", options)
        size = 64 if claim.name == "joint_bisenet" else 32
        assert config.data.size == size and config.adam.decay_start < config.train.steps
        assert getattr(claim, side).measure or claim.measure


def test_claims_have_names_of_their_own():
    names = [(claim.method, claim.name) for claim in CLAIMS]
    assert len(set(names)) == len(names) and {method for method, _ in names} == set(METHODS)


def test_lost_texture_compares_fine_detail_with_the_truth():
    truth = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    images = {"input": truth, "truth": truth, "edited": truth.copy()}
    images["edited"][1] *= 0.5
    np.testing.assert_allclose(experiments.lost_texture(images, EDIT), [0, 50], atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", ["elegant", "mask_guided", "domain_alignment"])
def test_what_a_model_does_is_measured_for_each_person(name, tmp_path):
    """Untrained networks: their results depend on no reference, map or block in a useful way."""
    from tfface.methods.trained import Trained
    from tfface.testing.case import tiny_method

    method, _ = tiny_method(name)
    trained = Trained(name, method, method.build(), 0, tmp_path)
    variants = [
        variant
        for claim in CLAIMS
        if claim.method == name
        for variant in (claim.proposed, claim.control)
        if variant.measure and claim.name in ("exemplar", "control", "parts")
    ]
    assert len(variants) == 2
    for variant in variants:
        values, beside = variant.measure(trained, tmp_path)
        assert values.shape == (experiments.PEOPLE,) and (values >= 0).all() and np.isfinite(beside)


def test_the_page_has_the_recorded_figures():
    _, written, _ = claims.block(ROOT / "docs" / "claims.md", claims.MARK)
    recorded = json.loads((ROOT / "benchmarks" / "claims.json").read_text())
    assert written.strip() == claims.tables(recorded).strip()
    assert set(recorded) <= {f"{claim.method}/{claim.name}" for claim in CLAIMS}


def test_invalid_arguments_are_reported(capsys):
    for words, message in (
        (["sargan", "--only", "colour"], "no claim 'colour': expected one of attention"),
        (["sargan", "--seeds", "1"], "--seeds is 1: expected 2 or more"),
        (["gan"], "invalid choice: 'gan'"),
    ):
        assert claims.main(words) == 2
        assert message in capsys.readouterr().err


PATCHED = {
    f"{claim.method}/{claim.name}/{variant.name}": (claim.method, variant)
    for claim in CLAIMS
    for variant in (claim.proposed, claim.control)
    if variant.patch is not contextlib.nullcontext
}


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", PATCHED)
def test_patched_methods_can_be_trained(name):
    from tfface.testing.case import tiny_method

    method_name, variant = PATCHED[name]
    with variant.patch():
        method, source = tiny_method(method_name)
        nets, size = method.build(), method.config.data.batch_size
        batch = next(iter(method.batches(source, "train", size, seed=0)))
        for phase in method.phases():
            total, _ = phase(nets, batch)
            assert np.isfinite(float(total))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_patched_networks_differ_as_they_should():
    import tensorflow as tf

    from tfface.config import replace
    from tfface.methods.sargan import Generator, networks
    from tfface.methods.seg_hierarchical.method import SegHierarchical
    from tfface.testing.case import tiny_method

    size = {"size": 32, "classes": 3, "width": 4, "attention_width": 4}
    with experiments._vanilla_block():
        vanilla = Generator(**size)
    inputs = [tf.random.stateless_uniform([2, 32, 32, 3], [1, 2], -1, 1), tf.one_hot([0, 1], 3)]
    np.testing.assert_array_equal(networks.attention_maps(vanilla)(inputs), 1.0)
    assert np.std(networks.attention_maps(Generator(**size))(inputs)) > 0

    method, source = tiny_method("seg_hierarchical")
    method = SegHierarchical(replace(method.config, {"fusion.kind": "blend"}))
    nets = method.build()
    batch = next(iter(method.batches(source, "train", 2, seed=0)))
    with experiments._global_alone():
        image, probabilities = batch["image"], method.segment(nets, batch["image"])
        found = method.manipulate(nets, image, method.one_hot(batch["target"]), probabilities)
    np.testing.assert_allclose(found["image"], found["global"], atol=1e-6)
    with experiments._boxes():
        grown = method.grown(probabilities).numpy()
    assert set(np.unique(grown)) <= {0.0, 1.0}
    # In graphs for any batch size, as those of signatures, the masks keep the images' size.
    spec = tf.TensorSpec([None, *probabilities.shape[1:]])
    for patch in (experiments._global_alone, experiments._boxes):
        with patch():
            graph = tf.function(lambda x: method.grown(x), autograph=False)
            shape = graph.get_concrete_function(spec).output_shapes
        assert shape.as_list() == [None, *grown.shape[1:]]

    with experiments._without_input():
        generator = Generator(**size)
    assert np.abs(generator(inputs)).max() < 1.0  # The output of tanh.
    with experiments._one_scale():
        one = Generator(**size)
    assert not any("_b2_" in layer.name for layer in one.layers)  # No path at half size.
    assert SegHierarchical.grown(method, probabilities).numpy().max() > 0
