"""Every method meets the contract of `tfface.testing`."""

import json

import pytest

import tfface
from tfface.client import FaceClient
from tfface.evaluation import evaluation_of
from tfface.metrics.tables import table
from tfface.server.app import Server
from tfface.testing import CHECKS, Case


@pytest.fixture(scope="module", params=tfface.list_methods())
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_contract(case, check):
    CHECKS[check](case)


FIGURES = {
    "domain_alignment": {"generated", "copy"},
    "elegant": {"edited", "copy", "target", "unchanged"},
    "mask_guided": {"segmentation", "diversity", "palette"},
    "sargan": {"edited", "copy", "target"},
    "seg_hierarchical": {"edited", "segmentation"},
}

EDITED = {"improved_over_input", "improved_by_half_db", "identity", "second"}


@pytest.mark.slow
def test_demonstration(case):
    with (
        Server(case.exported.parent, model_name=case.name) as server,
        FaceClient(f"127.0.0.1:{server.port}", case.name) as client,
    ):
        evaluation = evaluation_of(case.trained, client)
        judge = evaluation.judge(case.folder, steps=5)
        judges = [judge] if judge else []
        if evaluation.judged_by == "classifier":
            judges *= 2
        page = "".join(evaluation.show())
        figures = evaluation.against_truth(judges, count=2, seed=1)
    assert page.count("<img") == page.count(' alt="') > 20
    assert FIGURES[case.name] <= set(json.loads(json.dumps(figures)))
    edited = FIGURES[case.name] & {"edited", "copy", "target", "unchanged"}
    for kind in edited if len(judges) == 2 else ():
        assert EDITED <= set(figures[kind])
        assert figures[kind]["second"].items() <= figures[kind].items()
    header, rows = evaluation.table
    cells = table(rows, figures)
    assert cells and all(len(row) == 1 + len(header) for row in cells)
