"""Every method meets the contract of `tfface.testing`."""

import importlib
import json

import pytest

import tfface
from tfface.client import FaceClient
from tfface.evaluation import parts_of, yardstick_of
from tfface.server.app import Server
from tfface.testing import CHECKS, Case


@pytest.fixture(scope="module", params=tfface.list_methods())
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_contract(case, check):
    CHECKS[check](case)


FIGURES = {
    "domain_alignment": {"painted", "copy"},
    "elegant": {"edited", "copy", "target"},
    "mask_guided": {"segmentation", "diversity", "palette"},
    "sargan": {"edited", "copy", "target"},
    "seg_hierarchical": {"edited", "segmentation"},
}


@pytest.mark.slow
def test_demonstration(case):
    parts = importlib.import_module(f"tfface.methods.{case.name}.demo")
    yardstick = None
    if parts.YARDSTICK:
        yardstick = _yardstick(parts.YARDSTICK, case.trained, "tiny", case.folder)
    with (
        Server(case.exported.parent, model_name=case.name) as server,
        FaceClient(f"127.0.0.1:{server.port}", case.name) as client,
    ):
        page = "".join(parts.show(case.trained, client))
        figures = parts.evaluate(case.trained, client, yardstick, small=True)
    assert page.count("<img") == page.count(' alt="') > 20
    assert FIGURES[case.name] <= set(json.loads(json.dumps(figures)))
    header, rows = parts.table(figures)
    assert rows and all(len(row) == len(header) for row in rows)
