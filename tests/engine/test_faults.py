"""How runs handle faults; see docs/faults.md."""

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from crashes import crash_at
from tiny_runs import write_tiny_run
from toy_method import Noise, Toy, ToyConfig, lines, toy

from tfface.engine import replay as module
from tfface.engine.checkpoint import Checkpoints
from tfface.engine.progress import MEASURED, logging_to, make_console
from tfface.engine.run import Run, checkpoint_files
from tfface.engine.stopping import SIGNALS, StopSignals
from tfface.engine.trainer import Trainer
from tfface.errors import Interrupted, NotFinite, UserError
from tfface.paths import is_pattern, plain
from tfface.testing import compare_trainers

pytestmark = pytest.mark.usefixtures("eagerly")


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("name", "neighbour"),
    [
        ("x[1]", "x1"),
        ("a*", "ab"),
        ("a?", "ab"),
        ("back\\slash", "backslash"),
        ("l=1[a]{b}", "l=1a"),
    ],
)
def test_a_folder_whose_name_is_a_pattern_leaves_matching_folders_alone(tmp_path, name, neighbour):
    toy(tmp_path / "up" / neighbour).train()
    (tmp_path / "up" / neighbour / "checkpoints" / "step-1.npz").write_bytes(b"of the neighbour")
    before = content(tmp_path / "up" / neighbour)
    (tmp_path / name).mkdir()
    for path in (tmp_path / "up" / name, tmp_path / name / neighbour):  # In any part.
        options = {"train_keep": 1, "train_save_every": 1}
        crash_at_step(path, **options)
        assert toy(path, **options).train() == 6
        assert list(checkpoint_files(path / "checkpoints")) == [6]
        assert [line["step"] for line in lines(path)] == [1, 2, 3, 4, 5, 6]
        assert any((path / "tensorboard").iterdir()) and any((path / "previews").iterdir())
    assert content(tmp_path / "up" / neighbour) == before


def crash_at_step(path, number=4, **options):
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, toy(path, **options), number)


def test_unsuitable_folder_names_are_errors():
    for name, reason in (
        ("gs://bucket/run", "expected a local folder"),
        ("run-\udcff", "not UTF-8"),
    ):
        with pytest.raises(UserError, match=reason):
            Run.create("toy", ToyConfig(), name)


def test_plain_gives_a_temporary_link_for_a_pattern(tmp_path):
    folder = tmp_path / "v[2]"
    folder.mkdir()
    (folder / "file").write_text("here")
    assert is_pattern(folder / "x") and not is_pattern("x{1}")
    with plain(folder) as link:
        assert not is_pattern(link) and (link / "file").read_text() == "here"
    assert not link.exists() and (folder / "file").exists()


def test_metrics_are_averaged_across_a_crash(tmp_path):
    """A line is a mean over steps, including those before a crash."""
    options = {"train_steps": 8, "train_log_every": 4, "train_save_every": 3}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    toy(whole, **options).train()
    crash_at_step(parts, 7, **options)
    toy(parts, **options).train()
    for found, expected in zip(lines(parts), lines(whole), strict=True):
        for name in MEASURED:
            del found[name], expected[name]
        assert found == expected


# Signals.


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_finishes_the_step_and_saves(tmp_path, monkeypatch, number):
    def steps(self, n, batches, original=Trainer.steps):
        if n == 1:
            os.kill(os.getpid(), number)
        return original(self, n, batches)

    before = {n: signal.getsignal(n) for n in SIGNALS}
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="step 2 of 6") as stopped:
        patch.setattr(Trainer, "steps", steps)
        toy(tmp_path / "run").train()
    assert stopped.value.status == 128 + number
    assert {n: signal.getsignal(n) for n in SIGNALS} == before
    assert toy(tmp_path / "run").checkpoints.steps() == [2]
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]


def test_a_signal_during_the_last_checkpoint_is_not_lost(tmp_path, monkeypatch):
    """What called the training, such as a search, must not go on with the next thing."""

    def save(self, step, notes, original=Checkpoints.save):
        original(self, step, notes)
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Interrupted, match="stopped at step 6 of 6; saved to"):
        toy(tmp_path).train()
    assert toy(tmp_path).train() == 6


WAITS = """
import hashlib, signal, sys
from tfface.engine.stopping import StopSignals
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
with StopSignals() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)  # Blocks Python signal handlers.
"""


@contextlib.contextmanager
def waiting(*words):
    process = subprocess.Popen([sys.executable, "-c", WAITS, *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)  # Wait for the computation to start.
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("numbers", [(15, 15), (1, 2), (10, 15)])
def test_a_second_signal_ends_the_process_immediately(numbers):
    with waiting("") as process:
        for number in numbers:
            assert process.poll() is None
            process.send_signal(number)
            time.sleep(0.2)
        assert process.wait(10) == 128 + numbers[1]


def test_an_ignored_signal_stays_ignored():
    with waiting("nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None


def test_output_to_a_closed_terminal_does_not_stop_a_training(tmp_path):
    master, terminal = os.openpty()
    script = "from tfface.engine.stopping import StopSignals\n" + (
        "import os, time\n"
        "with StopSignals() as stop:\n"
        "    os.write(1, b'ready')\n"
        "    while stop.received is None:\n"
        "        time.sleep(0.05)\n"
        "    print('the last words', flush=True)\n"
        f"    open({str(tmp_path / 'saved')!r}, 'w').close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    assert os.read(master, 5) == b"ready"
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 0 and (tmp_path / "saved").exists()


def test_signals_are_not_handled_outside_of_the_main_thread():
    import threading

    found = []
    thread = threading.Thread(target=lambda: found.append(StopSignals().__enter__()))
    thread.start()
    thread.join()
    assert found[0].received is None


# Divergence.


def test_a_diverging_step_is_written_to_a_file_and_can_be_repeated(tmp_path, monkeypatch):
    options = {"adam_learning_rate": 1e30, "train_steps": 20, "train_log_every": 5}
    path = tmp_path / "run[1]"
    with pytest.raises(NotFinite) as error:
        toy(path, **options).train()
    number = int(str(error.value).split("diverged at step ")[1].split(":")[0])
    file = path / f"replay-{number}.npz"
    assert 1 < number < 5 and f"toy --replay '{file}'" in str(error.value)
    monkeypatch.setattr(module, "get_method", lambda name: Toy)
    monkeypatch.setattr(module, "get_config", lambda name: ToyConfig)
    found = module.replay(file, "toy")
    assert not np.isfinite(found["judge/total"]) and found["moved/critic"] != 0
    with pytest.raises(NotFinite, match="judge/total"):
        module.check_finite(found)
    with pytest.raises(UserError, match="a step of toy; expected .* `train elegant`"):
        module.replay(file, "elegant")
    with pytest.raises(UserError, match="cannot be read"):
        module.replay(tmp_path / "nowhere.npz", "toy")
    toy(tmp_path / "fine").train()
    with pytest.raises(UserError, match="contains no step"):
        module.replay(tmp_path / "fine/checkpoints/step-6.npz", "toy")


# Locks, moved folders, changed options.


def test_a_run_in_use_by_another_process_is_an_error(tmp_path):
    trainer = toy(tmp_path / "run")
    with trainer.run.alone():
        with pytest.raises(UserError, match="another process is training"):
            toy(tmp_path / "run").train()
    assert trainer.train() == 6


@pytest.mark.parametrize("how", [shutil.copytree, shutil.move])
def test_a_copied_or_moved_run_can_be_continued(tmp_path, how):
    whole = toy(tmp_path / "whole")
    whole.train()
    crash_at_step(tmp_path / "run")
    how(tmp_path / "run", tmp_path / "other place [2]")
    moved = toy(tmp_path / "other place [2]")
    assert moved.train() == 6
    compare_trainers(moved, whole)


def test_the_data_path_of_a_run_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("faces", "faces/", "./faces", "a/../faces", str(tmp_path / "faces")):
        toy(tmp_path / "run", data_path=path)
    assert not (tmp_path / "run" / "history.jsonl").exists()
    toy(tmp_path / "run", data_path="moved")
    (line,) = map(json.loads, (tmp_path / "run" / "history.jsonl").open())
    moved = [str(tmp_path / "faces"), str(tmp_path / "moved")]
    assert line["changed"] == {"data.path": moved}


def test_change_allows_other_optimiser_options_and_batch_sizes(tmp_path):
    crash_at_step(tmp_path / "run")
    changed = {"adam_learning_rate": 1e-3, "data_batch_size": 2, "train_steps": 7}
    with pytest.raises(UserError, match="adam.learning_rate was 0.01, is 0.001.*option change"):
        toy(tmp_path / "run", **changed)
    trainer = toy(tmp_path / "run", change=True, **changed)
    assert trainer.train() == 7 and trainer.optimizers["judge"].learning_rate < 1e-3
    (line,) = map(json.loads, (tmp_path / "run" / "history.jsonl").open())
    assert line["step"] == 3 and line["changed"]["data.batch_size"] == [4, 2]
    for fixed in ({"data_size": 64}, {"train_seed": 1}, {"train_precision": "mixed_float16"}):
        with pytest.raises(UserError, match="need a new run"):
            toy(tmp_path / "run", change=True, **fixed)


def test_init_starts_a_run_with_the_weights_of_another(tmp_path):
    first = toy(tmp_path / "first")
    first.train()
    second = toy(tmp_path / "second", init=tmp_path / "first", adam_learning_rate=1e-3)
    second.train(until=1)
    (line,) = map(json.loads, (tmp_path / "second" / "history.jsonl").open())
    assert line["init"] == {"run": str(tmp_path / "first"), "step": 6}
    fresh = toy(tmp_path / "fresh", init=tmp_path / "first")
    assert fresh._begin() == 0
    for part in ("nets", "averages"):
        for name, net in getattr(first, part).items():
            for a, b in zip(net.variables, getattr(fresh, part)[name].variables, strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert all(not o.iterations.numpy() for o in fresh.optimizers.values())
    again = toy(tmp_path / "second", init=tmp_path / "first", adam_learning_rate=1e-3)
    assert again._begin() == 1  # Its own checkpoint takes precedence.


# Errors that must not stop a training.


class Blind(Toy):
    def preview(self, nets, batch):
        raise RuntimeError("no eyes")


def test_a_failed_preview_is_logged_and_training_continues(tmp_path, capfd):
    assert toy(tmp_path / "run", Blind).train() == 6
    assert "preview at step 3 failed; training continues: no eyes" in capfd.readouterr().out
    assert not any((tmp_path / "run" / "previews").iterdir())


def test_previews_use_training_images_if_there_are_no_held_out_ones(tmp_path, capfd, monkeypatch):
    trainer = toy(tmp_path / "run")
    monkeypatch.setattr(Noise, "count", lambda self, split: 5)

    def batches(self, source, split, *words, original=Toy.batches, **options):
        if split == "val":
            raise UserError("no images with hats in the split 'val'")
        return original(self, source, split, *words, **options)

    monkeypatch.setattr(Toy, "batches", batches)
    assert trainer.train() == 6
    assert "no previews from the split 'val': no images with hats" in capfd.readouterr().out
    assert any((tmp_path / "run" / "previews").iterdir())


def test_a_failed_evaluation_is_logged_and_training_continues(tmp_path, capfd):
    def fail(*_):
        raise UserError("no glasses among 5 people")

    assert toy(tmp_path / "run", evaluate=fail, train_evaluate_every=2).train() == 6
    assert "evaluation at step 4 failed" in capfd.readouterr().out


def test_a_checkpoint_is_saved_if_images_disappear(tmp_path, monkeypatch):
    class Vanishing(Toy):
        def batches(self, source, split, batch_size, *, seed=None, start=0):
            data = super().batches(source, split, batch_size, seed=seed, start=start)

            def check(i, batch):
                gone = tf.debugging.Assert((i + start < 4) | (seed is None), ["gone"])
                with tf.control_dependencies([gone]):
                    return {k: tf.identity(v) for k, v in batch.items()}

            return data.enumerate().map(check)

    with pytest.raises(tf.errors.OpError):
        toy(tmp_path / "run", Vanishing).train()
    assert toy(tmp_path / "run").checkpoints.steps() == [3, 4]
    whole, again = toy(tmp_path / "whole"), toy(tmp_path / "run")
    whole.train(), again.train()
    compare_trainers(again, whole)


def test_an_unwritable_log_gives_one_warning(tmp_path, capfd):
    run = Run.create("toy", ToyConfig(), str(tmp_path / "run"))
    (run.path / "log.txt").symlink_to("/dev/full")
    logger = logging.getLogger("tfface")
    with logging_to(run, make_console()):
        logger.info("first")
        logger.info("second")
    out = capfd.readouterr().out
    assert "first" in out and "second" in out and out.count("log.txt cannot be written") == 1


def test_unwritable_metrics_stop_a_training_with_a_user_error(tmp_path, monkeypatch):
    def fail(self, *_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Run, "add_metrics", fail)
    with pytest.raises(UserError, match="cannot be written: Disk quota exceeded; .*continue with"):
        toy(tmp_path / "run").train()


@pytest.mark.slow
def test_an_export_to_a_folder_whose_name_is_a_pattern_can_be_served(tmp_path):
    from tfface.exporting.saved_model import export_run
    from tfface.server.saved_model import SavedModel

    trained = write_tiny_run(tmp_path / "run[1]", "sargan", classes=["happy", "sad"])
    first = export_run(trained, tmp_path / "v[2]")
    second = export_run(trained, tmp_path / "v[2]")
    assert (first.name, second.name) == ("1", "2")
    SavedModel(second).close()
