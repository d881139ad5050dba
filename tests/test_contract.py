"""Every method meets the contract of `tfface.testing`."""

import pytest

import tfface
from tfface.testing import CHECKS, Case


@pytest.fixture(scope="module", params=tfface.list_methods())
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("check", CHECKS)
def test_contract(case, check):
    CHECKS[check](case)
