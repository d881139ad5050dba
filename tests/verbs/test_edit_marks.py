"""`tfface.edit` states in its images how they were made; `--inspect` reads it."""

import pytest
from PIL import Image
from tiny_models import image
from tiny_runs import write_tiny_run

from tfface.data.images import read_mark
from tfface.data.label_map_ops import example_labels
from tfface.data.label_maps import save_label_map
from tfface.data.marks import EDITED, GENERATED, Mark
from tfface.edit import main
from tfface.exporting.saved_model import _save
from tfface.server.app import Server


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("marks")
    image(0, (40, 40)).save(root / "face.png")
    save_label_map(example_labels(48).numpy()[0], root / "map.png")
    write_tiny_run(root / "smiles", "sargan", classes=["happy", "sad"])
    write_tiny_run(root / "masks", "mask_guided")
    return root


@pytest.mark.parametrize(
    "run, words, source, model",
    [
        ("smiles", "face.png --expression sad", EDITED, "sargan/smiles"),
        ("masks", "--mask map.png --seed 1", GENERATED, "mask_guided/masks"),
    ],
)
def test_edits_of_a_run_state_its_name_and_step(root, monkeypatch, run, words, source, model):
    monkeypatch.chdir(root)
    assert main([run, *words.split(), "--out", f"from-{run}"]) == 0
    [file] = (root / f"from-{run}").iterdir()
    assert read_mark(file) == Mark(source, model, "step 0")


def test_edits_of_a_server_state_its_model_and_version(root, monkeypatch):
    import tfface

    monkeypatch.chdir(root)
    _save(tfface.load(root / "smiles"), root / "served" / "7")
    server = Server(root / "served", model_name="smiles", warm_up=False).start()
    try:
        address = f"127.0.0.1:{server.port}"
        words = ["face.png", "--server", address, "--model", "smiles", "--expression", "happy"]
        assert main([*words, "--out", "from-server"]) == 0
    finally:
        server.stop()
    [file] = (root / "from-server").iterdir()
    assert read_mark(file) == Mark(EDITED, "smiles", "version 7")


def test_inspect_prints_the_marks_of_files(root, capsys):
    from tfface.data.images import save_image

    marked = root / "marked.png"
    save_image(Image.open(root / "face.png"), marked, Mark(EDITED, "sargan/smiles", "step 5"))
    assert main(["--inspect", str(marked), str(root / "face.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "marked.png" in lines[0] and EDITED in lines[0] and "sargan/smiles step 5" in lines[0]
    assert "face.png" in lines[1] and EDITED not in lines[1]


def test_inspect_of_a_missing_file_is_an_error_that_names_it(capsys):
    assert main(["--inspect", "absent.png"]) == 2
    assert "absent.png" in capsys.readouterr().err
