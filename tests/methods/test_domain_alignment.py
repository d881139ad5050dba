"""Domain alignment beyond the contract: generation, losses, previews and invalid options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from random_tensors import normal

import tfface
from tfface.config import replace
from tfface.data.images import load_image, save_image, to_image
from tfface.data.label_map_ops import colour_labels
from tfface.data.label_maps import CLASSES_19, LINE, load_label_map, save_label_map, to_labels
from tfface.data.lines import OUTLINED
from tfface.edit import main as edit
from tfface.engine.load import write_run
from tfface.engine.step import TrainStep, make_optimizers
from tfface.engine.trainer import adam
from tfface.methods.domain_alignment.method import DomainAlignment, double, half, shares
from tfface.prepare import main as prepare
from tfface.testing import tiny_method
from tfface.train import main as train
from tfface.web import examples

SIZE = 32


@pytest.fixture(scope="module")
def opened():
    return tiny_method("domain_alignment")


@pytest.fixture(scope="module")
def nets(opened):
    keras.utils.set_random_seed(1)
    return opened[0].build()


@pytest.fixture(scope="module")
def batch(opened):
    method, source = opened
    batch = next(iter(method.batches(source, "train", 4, seed=0)))
    return {**batch, "paired": tf.constant([1.0, 0.0, 0.0, 1.0])}


def with_options(method, **options):
    """The method with some options changed, and the same perceptual network."""
    changed = DomainAlignment(replace(method.config, options))
    changed.perceptual = method.perceptual
    return changed


def take_steps(method, nets, batches):
    """Runs training steps like the engine, but not compiled; returns the terms of the last one."""
    tf.config.run_functions_eagerly(True)
    try:
        optimizers = make_optimizers(method, nets, adam)
        step = TrainStep(method, tf.distribute.get_strategy(), nets, {}, optimizers)
        rates = dict.fromkeys(optimizers, method.config.adam.learning_rate)
        for number, batch in enumerate(batches):
            [(names, values)] = step(number, [batch], [rates])
    finally:
        tf.config.run_functions_eagerly(False)
    assert np.isfinite(values).all()
    return dict(zip(names, values.numpy(), strict=True))


def test_results_do_not_depend_on_the_rest_of_the_batch(opened, nets, batch):
    method = opened[0]
    condition, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    whole = method.generate(nets, condition, exemplar)
    order = [2, 0, 3, 1]
    permuted = method.generate(nets, tf.gather(condition, order), tf.gather(exemplar, order))
    alone = method.generate(nets, condition[1:2], exemplar[1:2])
    for name, value in whole.items():
        np.testing.assert_allclose(permuted[name], tf.gather(value, order), atol=1e-4, err_msg=name)
        np.testing.assert_allclose(alone[name], value[1:2], atol=1e-4, err_msg=name)


def test_inference_does_not_need_the_exemplars_label_map(opened, nets, batch):
    method = opened[0]
    condition, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    without = method.generate(nets, condition, exemplar)
    with_labels = method.generate(nets, condition, exemplar, batch["exemplar_label_map"])
    assert set(with_labels) - set(without) == {"warped_labels"}
    for name, value in without.items():
        np.testing.assert_allclose(with_labels[name], value, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(tf.reduce_sum(with_labels["warped_labels"], -1), 1.0, atol=1e-5)
    for signature in method.signatures(nets).values():
        names = {name.removesuffix("_bytes") for name in signature.inputs}
        assert names == {"condition", "exemplar"}


def test_the_result_depends_on_condition_and_exemplar(opened, nets, batch):
    method = opened[0]
    condition, exemplar = method.encode(batch["condition"]), batch["exemplar"]
    image = method.generate(nets, condition, exemplar)["image"]
    for changed in ((condition[::-1], exemplar), (condition, exemplar[::-1])):
        assert np.abs(method.generate(nets, *changed)["image"] - image).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"alignment.kind": "dense"}, {"alignment.solver": "sinkhorn", "alignment.iterations": 10}],
    ids=lambda options: next(iter(options.values())),
)
def test_training_with_dense_and_sinkhorn_alignment_updates_weights(opened, batch, options):
    method = with_options(opened[0], **options)
    keras.utils.set_random_seed(2)
    nets = method.build()
    weights = nets["correspondence"].trainable_variables
    before = [v.numpy() for v in weights]
    terms = take_steps(method, nets, [batch])
    for a, v in zip(before, weights, strict=True):
        assert not np.array_equal(a, v.numpy()), v.path
    assert {"generator/warp", "generator/mask", "generator/cycle", "generator/contextual"} < set(
        terms
    )
    result = method.generate(nets, method.encode(batch["condition"]), batch["exemplar"])
    by_blocks = method.config.alignment.kind == "block"
    assert ("index" in result) == ("blocks_bytes" in method.signatures(nets)) == by_blocks
    assert len(method.preview(nets, batch)) == 6


@pytest.mark.slow
def test_mouths_of_exemplars_are_retrieved_for_mouths():
    """By the shipped model, for the blocks of 8 x 8 pixels with at least 8 of a mouth."""
    client, faces = tfface.load("domain_alignment/faces64").client, examples.faces()
    mouth = [CLASSES_19.index(name) for name in ("mouth", "u_lip", "l_lip")]
    exemplars = faces[3:] + faces[:3]
    maps = [examples.label_map_of(face) for face in faces]
    retrieved = client.retrieved_blocks(maps, list(exemplars))
    pixels = {
        file: np.isin(to_labels(load_label_map(file), 64), mouth).reshape(8, 8, 8, 8).sum((1, 3))
        for file in maps
    }
    found = [
        pixels[examples.label_map_of(exemplar)].flat[blocks.index[row, column, 0]] > 0
        for file, exemplar, blocks in zip(maps, exemplars, retrieved, strict=True)
        for row, column in np.argwhere(pixels[file] >= 8)
    ]
    assert len(found) >= 12 and np.mean(found) > 0.8


def test_retrieving_all_blocks_equals_dense_attention(opened, nets, batch):
    """All weights are 1 then, so that all blocks have the same bias."""
    condition = opened[0].encode(batch["condition"])
    arguments = (nets, condition, batch["exemplar"], batch["exemplar_label_map"])
    block, dense = (
        with_options(opened[0], **options).generate(*arguments)
        for options in ({"alignment.top_k": (SIZE // 2 // 4) ** 2}, {"alignment.kind": "dense"})
    )
    np.testing.assert_array_equal(block["weights"], tf.ones_like(block["weights"]))
    for name in ("warped", "warped_labels", "weight", "image"):
        np.testing.assert_allclose(block[name], dense[name], atol=1e-4, err_msg=name)
    few = opened[0].generate(*arguments)
    assert np.abs(few["warped"] - dense["warped"]).max() > 1e-2


PAIR_TERMS = ("pixel", "warp", "pair_features")


def terms_of(method, nets, batch):
    return {k: float(v) for k, v in method.loss("generator", nets, batch)[1].items()}


def test_pair_losses_ignore_examples_that_are_not_pairs(opened, nets, batch):
    method = opened[0]
    terms = terms_of(method, nets, batch)
    assert all(terms[name] > 1e-3 for name in PAIR_TERMS)
    # Another target for examples 1 and 2, which are not pairs, changes the other losses only.
    unpaired = batch["paired"][:, None, None, None] == 0.0
    other = {**batch, "image": tf.where(unpaired, -batch["image"], batch["image"])}
    changed = terms_of(method, nets, other)
    for name in PAIR_TERMS:
        assert changed[name] == pytest.approx(terms[name], rel=1e-4), name
    assert changed["perceptual"] != pytest.approx(terms["perceptual"], rel=1e-3)
    # Another target for pairs changes the pair losses.
    other = {**batch, "image": tf.where(unpaired, batch["image"], -batch["image"])}
    changed = terms_of(method, nets, other)
    assert all(changed[name] != pytest.approx(terms[name], rel=1e-3) for name in PAIR_TERMS)
    changed = terms_of(method, nets, {**batch, "pair_weight": tf.zeros(4)})
    assert all(changed[name] == 0.0 for name in PAIR_TERMS)
    for name in set(terms) - set(PAIR_TERMS):
        assert changed[name] == pytest.approx(terms[name], rel=1e-4), name


def test_losses_of_a_batch_are_the_means_of_the_losses_of_its_halves(opened, nets, batch):
    """So that the loss does not depend on the number of devices."""
    whole = terms_of(opened[0], nets, batch)
    halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
    of_halves = [terms_of(opened[0], nets, half) for half in halves]
    for name, value in whole.items():
        mean = np.mean([terms[name] for terms in of_halves])
        assert mean == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_total_is_the_weighted_sum_and_weight_0_omits_a_term(opened, nets, batch):
    method = opened[0]
    total, terms = method.loss("generator", nets, batch)
    weights = {**vars(method.config.weights)}
    weights["disc_features"] = weights["discriminator_features"]
    expected = sum(weights[k] * float(v) for k, v in terms.items())
    assert float(total) == pytest.approx(expected, rel=1e-5)
    options = {f"weights.{name}": 0.0 for name in ("domain", "mask", "cycle")}
    remaining = terms_of(with_options(method, **options), nets, batch)
    assert set(terms) - set(remaining) == {"domain", "mask", "cycle"}
    loaded = DomainAlignment(method.config)  # Without a perceptual network, like a loaded run.
    remaining = terms_of(loaded, nets, batch)
    assert set(terms) - set(remaining) == {"pair_features", "perceptual", "contextual"}


def test_shares_are_class_fractions_and_half_inverts_double():
    labels = tf.constant([[[0, 0, 1, 1], [0, 13, 1, 1]]])
    fractions = shares(labels)
    assert fractions.shape == (1, 1, 2, 19)
    assert (fractions[0, 0, 0, 0], fractions[0, 0, 0, 13], fractions[0, 0, 1, 1]) == (
        0.75,
        0.25,
        1.0,
    )
    x = normal(1, 4, 6, 2)
    np.testing.assert_allclose(half(double(x)), x, rtol=1e-6)


def test_preview_draws_frames_around_query_and_retrieved_blocks(opened, nets, batch):
    method = opened[0]
    columns = method.preview(nets, batch)
    result = method.generate(nets, method.encode(batch["condition"]), batch["exemplar"])
    side = 2 * method.config.alignment.block_side
    across = SIZE // side
    offset = np.arange(SIZE) % side
    border = np.isin(offset, (0, side - 1))
    border = border[:, None] | border[None]
    for name, plain in (
        ("condition", colour_labels(batch["condition"])),
        ("exemplar", batch["exemplar"]),
    ):
        changed = (columns[name].numpy() != plain.numpy()).any(-1)
        assert changed.any((1, 2)).all() and not changed[:, ~border].any(), name
        assert (columns[name].numpy() >= plain.numpy()).all()  # Towards white.
    blocks = (columns["exemplar"].numpy() != batch["exemplar"].numpy()).any(-1)
    blocks = blocks.reshape(4, across, side, across, side).any((2, 4)).reshape(4, -1)
    query = (columns["condition"].numpy() != colour_labels(batch["condition"]).numpy()).any(-1)
    query = query.reshape(4, across, side, across, side).any((2, 4)).reshape(4, -1)
    assert (query.sum(1) == 1).all()
    for i in range(4):
        retrieved = result["index"][i, int(np.argmax(query[i]))].numpy()
        assert set(np.flatnonzero(blocks[i])) == set(retrieved)
    np.testing.assert_array_equal(columns["image of the condition"], batch["image"])
    np.testing.assert_allclose(columns["result"], result["image"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["lines", "edges"])
def test_line_conditions_in_training_and_edit(opened, tmp_path, capsys, condition):
    method, source = opened
    method = with_options(method, condition=condition)
    assert method.takes == "lines"
    batches = list(method.batches(source, "train", 4, seed=0).take(2))
    lines = batches[0]["condition"]
    assert lines.shape == (4, SIZE, SIZE) and lines.dtype == tf.int32
    outlined = [CLASSES_19.index(name) for name in OUTLINED] if condition == "lines" else []
    assert set(np.unique(lines)) <= {0, LINE, *outlined} and 0.02 < np.mean(lines > 0) < 0.5
    keras.utils.set_random_seed(3)
    nets = method.build()
    take_steps(method, nets, batches)
    write_run(tmp_path / "run", "domain_alignment", method, nets)

    save_label_map(batches[0]["label_map"][0].numpy(), tmp_path / "map.png")
    save_image(to_image(batches[0]["image"][0].numpy()), tmp_path / "photo.png")
    save_image(to_image(batches[0]["exemplar"][1].numpy()), tmp_path / "exemplar.png")
    drawn = ["--photo", "photo.png"] if condition == "edges" else ["map.png"]
    drawn[-1] = str(tmp_path / drawn[-1])
    assert prepare(["lines", *drawn, "--size", "32", "--out", str(tmp_path / "lines.png")]) == 0
    words = [str(tmp_path / "run"), "--exemplar", str(tmp_path / "exemplar.png")]
    words += ["--out", str(tmp_path / "out"), "--condition"]
    assert edit([*words, str(tmp_path / "lines.png")]) == 0
    result = load_image(tmp_path / "out" / "lines-face.png")
    lines = load_label_map(tmp_path / "lines.png", lines=True)[None].astype(np.int32)
    if condition == "edges":
        assert np.mean(lines != batches[0]["condition"][:1]) < 0.05  # But for 8 bits.
    exemplar = np.asarray(load_image(tmp_path / "exemplar.png"), np.float32)[None] / 127.5 - 1.0
    expected = method.generate(nets, method.encode(tf.constant(lines)), tf.constant(exemplar))
    expected = np.asarray(to_image(expected["image"][0].numpy()), int)
    assert np.abs(np.asarray(result, int) - expected).max() <= 1
    # A label map is not a valid line drawing.
    capsys.readouterr()
    save_label_map(np.maximum(batches[0]["label_map"][0], 1), tmp_path / "full.png")
    assert edit([*words, str(tmp_path / "full.png")]) == 2
    assert "expected a line drawing" in capsys.readouterr().err


# Invalid options and data.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--alignment.block_side", "5"], "block_side is 5: expected a divisor of 16, the side"),
        (["--alignment.block_side", "0"], "alignment.block_side is 0: expected a divisor of 16"),
        (["--alignment.top_k", "17"], "top_k is 17: expected 1 to 16, the number of blocks"),
        (["--alignment.top_k", "0"], "alignment.top_k is 0: expected 1 to 16"),
        (["--data.size", "64", "--alignment.top_k", "65"], "top_k is 65: expected 1 to 64"),
        (["--fusion_side", "6"], "fusion_side is 6: expected a divisor of 16"),
        (["--paired", "1.5"], "paired is 1.5: expected 0 to 1"),
        (["--paired", "-0.1"], "paired is -0.1: expected 0 to 1"),
        (
            ["--perceptual", "none"],
            "weights.pair_features is 10, but perceptual is 'none': expected 0",
        ),
        (
            ["--perceptual", "none", "--weights.pair_features", "0", "--weights.perceptual", "0"],
            "weights.contextual is 1, but perceptual is 'none': expected 0",
        ),
        (
            ["--vgg_weights", "vgg.h5"],
            "vgg_weights is 'vgg.h5', but perceptual is 'random': expected 'vgg19'",
        ),
        (
            ["--perceptual", "vgg19", "--vgg_weights", "/nowhere/vgg.h5"],
            "vgg_weights is '/nowhere/vgg.h5': no such file",
        ),
        (["--alignment.temperature", "0"], "alignment.temperature is 0: expected above 0"),
        (["--alignment.iterations", "0"], "alignment.iterations is 0: expected at least 1"),
        (["--encoder_blocks", "-1"], "encoder_blocks is -1: expected 0 or more"),
        (["--condition", "sketch"], "lines"),
        (["--alignment.kind", "blocks"], "dense"),
        (["--widht", "4"], "perhaps you mean 'width'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_print_an_error(capfd, tmp_path, options, expected):
    argv = ["domain_alignment", "--preset", "tiny", "--run", str(tmp_path / "run"), *options]
    try:
        status = train(argv)
    except SystemExit as stopped:
        status = stopped.code
    error = capfd.readouterr().err.strip()
    assert status == 2 and "Traceback" not in error
    assert expected in " ".join(error.splitlines()[-1].split()), error
    assert not (tmp_path / "run").exists()


def test_data_without_label_maps_print_an_error(tmp_path, capfd):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            save_image(to_image(np.zeros((40, 40, 3))), tmp_path / name / f"{i}.png")
    argv = ["domain_alignment", "--preset", "tiny", "--data.name", "folder"]
    assert train([*argv, "--data.path", str(tmp_path), "--run", str(tmp_path / "run")]) == 2
    assert "label_map" in capfd.readouterr().err.strip().splitlines()[-1]


def test_loading_a_run_does_not_need_the_perceptual_network(opened, nets, tmp_path):
    options = {"perceptual": "vgg19", "vgg_weights": "/nowhere/vgg.h5"}
    write_run(tmp_path / "run", "domain_alignment", with_options(opened[0], **options), nets)
    assert tfface.load(str(tmp_path / "run")).method.perceptual is None
