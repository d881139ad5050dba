"""Every method meets the contract of `tfface.testing`."""

import json

import pytest

import tfface
from tfface.client import FaceClient
from tfface.evaluation import evaluation_of
from tfface.metrics.tables import table
from tfface.server.app import Server
from tfface.testing import CHECKS, Case
from tfface.testing.training import eagerly


@pytest.fixture(scope="module", params=tfface.list_methods())
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_method_passes_contract_check(case, check):
    CHECKS[check](case)


# Keys of the metrics of each method, and of its edited images.
METRICS = {
    "domain_alignment": {"generated", "copy"},
    "elegant": {"edited", "copy", "target", "unchanged"},
    "mask_guided": {"segmentation", "diversity", "palette"},
    "sargan": {"edited", "copy", "target"},
    "seg_hierarchical": {"edited", "segmentation"},
}

EDITED = {"improved_over_input", "improved_by_half_db", "identity", "second"}


@pytest.mark.slow
def test_evaluation_of_an_exported_model_has_all_images_and_metrics(case):
    with (
        eagerly(),
        Server(case.exported.parent, model_name=case.name, warm_up=False) as server,
        FaceClient(f"127.0.0.1:{server.port}", case.name) as client,
    ):
        evaluation = evaluation_of(case.trained, client)
        judge = evaluation.judge(case.folder, steps=5)
        judges = [judge] if judge else []
        if evaluation.judged_by == "classifier":
            judges *= 2
        page = "".join(evaluation.show())
        metrics = evaluation.against_truth(judges, count=2, seed=1)
    assert page.count("<img") == page.count(' alt="') > 20
    assert METRICS[case.name] <= set(json.loads(json.dumps(metrics)))
    edited = METRICS[case.name] & {"edited", "copy", "target", "unchanged"}
    for kind in edited if len(judges) == 2 else ():
        assert EDITED <= set(metrics[kind])
        assert metrics[kind]["second"].items() <= metrics[kind].items()
    header, rows = evaluation.table
    cells = table(rows, metrics)
    assert cells and all(len(row) == 1 + len(header) for row in cells)
