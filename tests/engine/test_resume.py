"""Runs of a toy method: interruption, resuming, damaged checkpoints, and the run folder."""

import errno
import json
import logging
import os
import shlex
import shutil

import pytest
import tensorflow as tf
from crashes import crash_at
from toy_method import Painter, Toy, ToyConfig, lines, toy

from tfface.config import Train
from tfface.engine.checkpoint import Checkpoints
from tfface.engine.run import Run, write_text
from tfface.engine.trainer import Trainer
from tfface.errors import Interrupted, UserError, invocation
from tfface.testing import compare_trainers


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_resuming_after_a_crash_gives_the_uninterrupted_run(tmp_path, monkeypatch, policy):
    options = {
        "train_precision": policy,
        "train_jit": "auto" if policy == "mixed_float16" else "off",  # Compiling is slow.
    }
    whole = toy(tmp_path / "whole", **options)
    assert whole.train() == 6
    crash_at(monkeypatch, toy(tmp_path / "parts", **options), number=4)
    assert [line["step"] for line in lines(tmp_path / "parts")] == [1, 2, 3, 4]
    parts = toy(tmp_path / "parts", **options)
    assert parts.train() == 6
    assert [line["step"] for line in lines(tmp_path / "parts")] == [1, 2, 3, 4, 5, 6]
    compare_trainers(parts, whole)
    kinds = [v.path for o in parts.optimizers.values() for v in o.variables]
    assert any("momentum" in path for path in kinds)
    assert any("scale" in path for path in kinds) == (policy == "mixed_float16")
    assert any("seed" in v.path for v in parts.nets["painter"].variables)


def test_training_in_parts_equals_training_at_once(tmp_path):
    whole, parts = toy(tmp_path / "whole"), toy(tmp_path / "parts")
    whole.train()
    assert (parts.train(until=2), parts.checkpoints.steps()) == (2, [2])
    assert (parts.train(until=5), parts.train(until=99)) == (5, 6)  # Schedules always end at 6.
    compare_trainers(parts, whole)
    rates = [[line["learning_rate"] for line in lines(t.run.path)] for t in (parts, whole)]
    assert rates[0] == rates[1]


def test_a_run_folder_has_config_logs_metrics_previews_and_checkpoints(tmp_path):
    trainer = toy(tmp_path / "run", train_steps=4, train_save_every=1, train_preview_every=2)
    trainer.train()
    found = {p.name for p in (tmp_path / "run").iterdir()}
    assert found == {
        ".lock", "method.txt", "config.yaml", "command.txt", "environment.json", "log.txt",
        "metrics.jsonl", "tensorboard", "previews", "checkpoints",
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "run/previews").iterdir()) == [
        f"{n:07d}.png" for n in (0, 2, 4)
    ]
    assert trainer.checkpoints.steps() == [3, 4]  # `keep` is 2.
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["tensorflow"] == tf.__version__
    first, second = lines(tmp_path / "run")[:2]
    assert {"judge/total", "judge/real", "judge/fake", "learning_rate"} <= set(first)
    assert "paint/total" not in first and "paint/total" in second


# Faults.


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_can_continue(tmp_path, monkeypatch):
    trainer = toy(tmp_path / "run")

    def save(self, step, notes=None, original=Checkpoints.save):
        if step > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, step, notes)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(UserError, match="disk is full; the checkpoint of step 3 is kept.*--run"):
        trainer.train()
    monkeypatch.undo()
    again = toy(tmp_path / "run")
    assert again.train() == 6
    whole = toy(tmp_path / "whole")
    whole.train()
    compare_trainers(again, whole)


def test_other_write_errors_are_raised_unchanged(tmp_path, monkeypatch):
    def save(self, step, notes):
        raise PermissionError("no")

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(PermissionError):
        toy(tmp_path).train()


def test_a_run_stopped_by_a_signal_continues_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = toy(tmp_path / "whole")
    whole.train()

    def steps(self, number, batches, original=Trainer.steps):
        if number == 1:
            os.kill(os.getpid(), 2)
        return original(self, number, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "steps", steps)
        with pytest.raises(Interrupted, match="stopped at step 2 of 6"):
            toy(tmp_path / "run").train()
    again = toy(tmp_path / "run")
    assert again.checkpoints.steps() == [2]
    again.train()
    compare_trainers(again, whole)


def damage(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "garbage":
        path.write_bytes(b"garbage")
    else:  # A byte within an array.
        held = bytearray(path.read_bytes())
        held[held.index(b"nets/painter/0.npy") + 250] ^= 255
        path.write_bytes(held)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run, to be copied."""
    path = tmp_path_factory.mktemp("done") / "run"
    toy(path, train_steps=1).train()
    return path


@pytest.fixture
def copied(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("how", ["cut", "garbage", "changed"])
def test_a_run_with_only_a_damaged_checkpoint_is_an_error(copied, how):
    damage(copied / "checkpoints" / "step-1.npz", how)
    with pytest.raises(UserError, match="step-1.npz in .*: damaged, and there is no other"):
        toy(copied, train_steps=1).train()
    assert (copied / "checkpoints" / "step-1.npz").exists()


@pytest.mark.parametrize("how", ["cut", "garbage", "changed"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, caplog, how):
    whole, run = toy(tmp_path / "whole"), tmp_path / "run"
    whole.train()
    shutil.copytree(tmp_path / "whole", run)
    damage(run / "checkpoints" / "step-6.npz", how)
    caplog.set_level(logging.WARNING, "tfface")
    nets = Toy(ToyConfig()).build()
    assert Checkpoints(run / "checkpoints", nets, {"painter": Painter()}).restore() == 3
    assert (
        "step-6.npz is damaged" in caplog.text
        and "using the checkpoint of step 3 instead" in caplog.text
    )
    assert (run / "checkpoints" / "step-6.npz").exists()  # Only a training sets it aside.
    again = toy(run)
    assert again.train() == 6 and again.checkpoints.steps() == [3, 6]
    assert (run / "checkpoints" / "step-6.npz.damaged").exists()
    compare_trainers(again, whole)


def test_a_checkpoint_of_other_networks_is_an_error_that_names_a_variable(copied):
    class Wider(Toy):
        def build(self):
            return {**super().build(), "critic": Painter()}

    with pytest.raises(UserError, match="of other networks: nets/critic/0 is of shape"):
        toy(copied, Wider, train_steps=1).train()


def test_checkpoints_of_an_earlier_version_are_an_error(copied):
    (copied / "checkpoints" / "step-1.npz").unlink()
    (copied / "checkpoints" / "step-1.index").touch()
    with pytest.raises(UserError, match="of an earlier version of tfface"):
        toy(copied, train_steps=1).train()


def test_a_missing_step_is_an_error_that_lists_the_available_ones(copied):
    trainer = toy(copied, train_steps=1)
    with pytest.raises(UserError, match="has no checkpoint of step 7; available: 1"):
        trainer.checkpoints.restore(7)


def test_continuing_with_other_options_is_an_error_that_lists_them(copied):
    with pytest.raises(UserError, match="adam.learning_rate was 0.01, is 0.5.*train.seed was 0, "):
        toy(copied, adam_learning_rate=0.5, train_seed=3)
    with pytest.raises(UserError, match="train.precision was 'float32', is 'mixed_float16'"):
        toy(copied, train_precision="mixed_float16")
    with pytest.raises(UserError, match="method was 'toy', is 'sargan'"):
        Run.create("sargan", ToyConfig(train=Train(steps=1)), str(copied))


def test_the_resume_command_is_quoted_for_the_shell(tmp_path):
    run = Run.create("toy", ToyConfig(), str(tmp_path / "my runs"))
    words = ["toy", "--config", f"{run.path}/config.yaml", "--run", str(run.path)]
    assert shlex.split(run.resume_command()) == [*shlex.split(invocation("train")), *words]


def test_a_complete_run_can_be_extended(copied):
    trainer = toy(copied, train_steps=2, train_log_every=2, train_keep=5, train_save_every=1)
    assert trainer.train() == 2
    assert trainer.checkpoints.steps() == [1, 2]
    assert toy(copied, train_steps=2).train() == 2  # Nothing left to do.


def test_a_folder_with_other_content_is_an_error(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not a run folder: it has no config.yaml"):
        toy(tmp_path)
    with pytest.raises(UserError, match="cannot create a run folder"):
        toy(tmp_path / "thesis.tex" / "run")
    with pytest.raises(UserError, match="it has no method.txt"):
        Run(tmp_path / "nowhere").read_config()


@pytest.mark.parametrize("text", ["{unclosed: [", "just words", ""])
def test_a_damaged_config_is_an_error_that_names_the_file(copied, text):
    (copied / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="config.yaml"):
        Run(copied).read_config()


def test_metrics_after_the_checkpoint_are_removed(tmp_path):
    run = Run(tmp_path)
    run.truncate_metrics(3)  # No metrics yet.
    for step in range(1, 6):
        run.add_metrics(step, {"a": step / 3})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "a"')  # A crash while writing.
    run.truncate_metrics(3)
    assert lines(tmp_path) == [{"step": s, "a": s / 3} for s in (1, 2, 3)]


def test_text_files_are_written_atomically(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "new \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_new_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(Run.create("toy", ToyConfig(), "", label).path) for label in ("x", "", "y")]
    assert paths == ["runs/00000-toy-x", "runs/00001-toy", "runs/00002-toy-y"]


def test_a_run_that_was_killed_while_its_folder_was_created_is_created_again(tmp_path):
    folder = tmp_path / "run"
    for name in ("previews", "checkpoints"):
        (folder / name).mkdir(parents=True)
    (folder / "method.txt").write_text("toy\n")
    (folder / ".config.yaml.0123.tmp").write_text("tr")
    run = Run.create("toy", ToyConfig(), str(folder))
    assert run.read_config()[0] == "toy"
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / "step-1.npz").touch()
    with pytest.raises(UserError, match="no config.yaml"):
        Run.create("toy", ToyConfig(), str(other))
