"""serving/clients/predict.py: a client that needs only gRPC and serving.proto, not TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import image, png, save

from tfface.server.app import Server

pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
CLIENT = Path(__file__).parents[2] / "serving" / "clients" / "predict.py"


@pytest.mark.slow
def test_image_is_sent_and_received_without_tensorflow(tmp_path):
    save(tmp_path / "model" / "1")
    (tmp_path / "face.png").write_bytes(png(image()))
    code = (
        "import runpy, sys\n"
        "sys.path.insert(0, sys.argv[1].rpartition('/')[0])\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    with Server(tmp_path / "model", model_name="g") as server:
        done = subprocess.run(
            [sys.executable, "-c", code, CLIENT, "g", "image_bytes=@face.png", "expression=sad",
             "--out=out.png", f"--target=127.0.0.1:{server.port}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    edited = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(edited, 255 - np.asarray(image()))
