"""The command line: messages of the verbs, and `tfface.train` end to end on image files."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from eager_commands import ENVIRONMENT
from PIL import Image

import tfface
import tfface.errors
from tfface import cli
from tfface.engine.progress import MEASURED
from tfface.testing.training import eagerly
from tfface.train import main

ROOT = Path(__file__).parents[2]


def lines(path):
    found = [json.loads(line) for line in (Path(path) / "metrics.jsonl").open()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in found]


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A folder of images for each of three expressions."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for name in ("happy", "neutral", "sad"):
        (root / name).mkdir()
        for i in range(6):
            image = Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8))
            image.save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def celeba(tmp_path_factory):
    """A small set in CelebA's layout."""
    root = tmp_path_factory.mktemp("celeba")
    (root / "img_align_celeba").mkdir()
    rng = np.random.default_rng(1)
    rows, parts = ["40", "Bangs Eyeglasses Smiling"], []
    for i in range(40):
        name = f"{i + 1:06d}.jpg"
        image = Image.fromarray(rng.integers(0, 256, (60, 50, 3), np.uint8))
        image.save(root / "img_align_celeba" / name)
        rows.append(" ".join([name, *(("1" if i >> bit & 1 else "-1") for bit in range(3))]))
        parts.append(f"{name} {0 if i < 24 else 1 if i < 32 else 2}")
    (root / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


def failure(capfd, call, *argv):
    """The message of a command that fails with status 2, without a traceback."""
    try:
        status = call(list(argv))
    except SystemExit as stopped:
        status = stopped.code
    err = capfd.readouterr().err.strip()
    assert status == 2 and "Traceback" not in err
    message = err.splitlines()[-1]
    assert "error: " in message
    return message


@pytest.mark.slow
def test_elegant_trains_on_celeba_and_continues(celeba, tmp_path, capfd):
    run = tmp_path / "run"
    argv = ["elegant", "--preset", "tiny", "--data.name", "celeba", "--data.path", str(celeba)]
    assert main([*argv, "--run", str(run), "--train.steps", "4"]) == 0
    assert [line["step"] for line in lines(run)] == [2, 4]
    assert "attributes/disc1" in lines(run)[0]
    assert {"discriminator/disc1", "generator/reconstruction"} <= set(lines(run)[1])
    assert main([*argv, "--run", str(run), "--train.steps", "5"]) == 0
    out = capfd.readouterr().out
    assert "continued from step 4" in out and "step 5/5" in out
    trained = tfface.load(str(run))
    assert trained.step == 5 and trained.method.config.attributes == ("Eyeglasses", "Smiling")
    assert len((run / "command.txt").read_text().splitlines()) == 2


@pytest.mark.slow
def test_ctrl_c_saves_and_the_printed_command_gives_the_uninterrupted_run(faces, tmp_path):
    common = [
        "sargan", "--preset", "tiny", "--data.name", "folder", "--data.path", str(faces),
        "--adam.schedule", "constant", "--train.log_every", "1", "--train.preview_every", "100000",
    ]  # fmt: skip
    run = tmp_path / "run"
    command = [sys.executable, "-m", "tfface.train", *common, "--run", str(run)]
    process = subprocess.Popen(
        [*command, "--train.steps", "100000", "--train.save_every", "100000"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics, deadline = run / "metrics.jsonl", time.monotonic() + 240
        while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    stopped, hint = err.strip().splitlines()[-2:]
    done = int(stopped.split("stopped at step ")[1].split()[0])
    assert tfface.load(str(run)).step == done
    _, _, words = hint.partition("continue with: ")
    steps = ["--train.steps", str(done + 3)]
    # The printed command, in another process, gives the same metrics.
    subprocess.run(
        f"{words} {shlex.join(steps)}", shell=True, check=True, cwd=ROOT, env=ENVIRONMENT
    )
    whole = tmp_path / "whole"
    with eagerly():
        assert main([*common, *steps, "--run", str(whole)]) == 0
    # The order of parallel sums varies on a busy machine, and with it the last bits.
    for found, expected in zip(lines(run), lines(whole), strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    nets = [tfface.load(str(path)).nets for path in (run, whole)]
    for name in nets[0]:
        for a, b in zip(nets[0][name].variables, nets[1][name].variables, strict=True):
            path = f"{name} {a.path}"
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-5, 1e-7, err_msg=path)


def test_a_run_with_other_options_is_an_error_that_lists_them(faces, tmp_path, capfd):
    from tfface.engine.run import Run
    from tfface.testing import tiny_method

    method, _ = tiny_method("sargan")
    run = tmp_path / "run"
    Run.create("sargan", method.config, str(run))
    argv = ["sargan", "--preset", "tiny", "--run", str(run)]
    message = failure(capfd, main, *argv, "--width", "8")
    assert "width was 4, is 8" in message and "--config" in message
    assert "method was 'sargan'" in failure(capfd, main, "elegant", *argv[1:])


def test_mistakes_exit_with_status_2_and_name_the_value(faces, celeba, tmp_path, capfd):
    def error(*argv):
        return failure(capfd, main, *argv)

    assert "elegant" in error("elegnt")
    assert "no preset 'tny'" in error("sargan", "--preset", "tny")
    assert "perhaps you mean 'train.steps'" in error("sargan", "--train.stepz", "3")
    tiny = ["sargan", "--preset", "tiny"]
    assert "width" in error(*tiny, "--width", "wide")
    missing = str(tmp_path / "nowhere")
    assert f"{missing!r}: no such folder" in error(
        *tiny, "--data.name", "folder", "--data.path", missing
    )
    assert f"labelled.path is {missing!r}: no such folder" in error(
        "seg_hierarchical", "--preset", "tiny", "--labelled.name", "celebamask_hq",
        "--labelled.path", missing, "--labelled.size", "32",
    )  # fmt: skip
    assert "data.path is" in error(  # Not labelled.path, which has no effect here.
        "seg_hierarchical", "--preset", "paper", "--only_segmenter", "true", "--data.path", missing
    )
    assert "'hapy'" in error(*tiny, "--classes", "[hapy, sad]")
    folder = ["--data.name", "folder", "--data.path", str(faces)]
    assert "perhaps you mean 'happy'" in error(*tiny, *folder, "--classes", "[hapy, sad]")
    elegant = ["elegant", "--preset", "tiny"]
    assert "'Smilng'" in error(*elegant, "--attributes", "[Smilng]")
    assert "perhaps you mean 'Smiling'" in error(
        *elegant, "--data.name", "celeba", "--data.path", str(celeba), "--attributes", "[Smilng]"
    )
    assert "has no attributes" in error(*elegant, *folder)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("")
    assert "not a run folder" in error(*tiny, "--run", str(tmp_path / "thesis"))
    assert "train.replicas is 99" in error(
        *tiny, "--train.replicas", "99", "--run", str(tmp_path / "r")
    )


def test_an_unknown_option_in_a_runs_config_is_an_error(tmp_path, capfd):
    run = tmp_path / "run"
    run.mkdir()
    (run / "method.txt").write_text("sargan\n")
    (run / "config.yaml").write_text("width: 4\nlambda_rec: 1.0\n")
    expected = f"{run}/config.yaml: unknown option 'lambda_rec'; perhaps you mean 'weights.recon"
    assert expected in failure(capfd, main, "sargan", "--preset", "tiny", "--run", str(run))
    with pytest.raises(tfface.errors.UserError, match="another version of tfface") as error:
        tfface.load(run)
    assert expected in str(error.value)


def test_a_full_disk_is_an_error_that_names_the_file(monkeypatch, tmp_path, capfd):
    def fail(self):
        raise OSError(28, "No space left on device", str(tmp_path / "run"))

    monkeypatch.setattr("os.fsync", fail)
    argv = ["sargan", "--preset", "tiny", "--run", str(tmp_path / "run")]
    assert f"the disk is full: {tmp_path / 'run'}" in failure(capfd, main, *argv)


NO_TENSORFLOW = """
import contextlib, io, sys, time
for verb in sys.argv[1].split():
    for argv in (["--help"], ["--nonsense", "x"], ["a", "b", "--expresion", "c"]):
        before = time.process_time()
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                status = __import__(f"tfface.{verb}", fromlist=["main"]).main(argv)
            except SystemExit as stopped:
                status = stopped.code
        assert (status or 0) == (0 if argv == ["--help"] else 2), (verb, argv, status)
        assert "Traceback" not in out.getvalue(), (verb, argv)
        if argv == ["--help"]:
            assert "usage" in out.getvalue(), verb
    loaded = {"tensorflow", "keras", "torch"} & set(sys.modules)
    assert not loaded, (verb, loaded)
"""


@pytest.mark.parametrize("method", tfface.list_methods())
def test_help_of_a_method_lists_options_and_presets(method, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([method, "--help"])
    text = capsys.readouterr().out
    assert not stopped.value.code
    assert "--data.batch_size" in text and "--preset" in text and "tiny" in text


def test_help_and_mistakes_do_not_import_tensorflow():
    """One process for all verbs, because imports take most of the time."""
    verbs = " ".join(v for v in cli.VERBS if (ROOT / "tfface" / f"{v}.py").exists())
    subprocess.run([sys.executable, "-c", NO_TENSORFLOW, verbs], check=True, cwd=ROOT)


def test_a_reader_that_leaves_ends_a_command_without_a_message():
    words = [sys.executable, "-m", "tfface.train", "sargan", "--help"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 141


def test_the_console_command_runs_verbs_and_suggests_names(monkeypatch, capsys):
    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["tfface", *argv])
        return cli.main()

    assert call() == call("--help") == 0
    usage = capsys.readouterr().out
    assert all(verb in usage for verb in cli.VERBS)
    assert call("--version") == 0
    assert capsys.readouterr().out.strip() == tfface.__version__
    assert call("trian") == 2
    assert "unknown verb 'trian'; perhaps you mean 'train'?" in capsys.readouterr().err
    assert call("edit", "nowhere", "a.png") == 2
    assert "tfface.edit: error: nowhere: no such run folder" in capsys.readouterr().err
    for verb, word, meant in (
        ("edit", "--expresion", "--expression"),
        ("export", "--st", "--step"),
    ):
        assert call(verb, "a", word, "b") == 2
        expected = f"tfface.{verb}: error: unknown option {word}; perhaps you mean '{meant}'?\n"
        assert capsys.readouterr().err == expected
        with pytest.raises(SystemExit):
            call(verb, "--help")
        assert f"usage: tfface {verb} [" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (tfface.errors.UserError("a mistake"), 2, "a mistake"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), 2, "the disk is full"),
    ],
)
def test_expected_errors_are_one_line_and_an_exit_status(error, status, message, capsys):
    @cli.command
    def verb(argv):
        raise error

    assert verb([]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_unexpected_errors_keep_their_traceback():
    @cli.command
    def verb(argv):
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        verb([])
