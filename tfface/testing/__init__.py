"""The contract of methods, as checks that a test suite runs one by one.

    import pytest, tfface
    from tfface.testing import CHECKS, Case

    @pytest.fixture(scope="module", params=tfface.list_methods())
    def case(request, tmp_path_factory):
        return Case(request.param, tmp_path_factory.mktemp(request.param))

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(case, check):
        CHECKS[check](case)

The checks use a method's `tiny` preset on built-in faces. A failed check raises AssertionError.
"""

from __future__ import annotations

from pathlib import Path

from tfface.testing.case import CHECKS, Case, FewFaces, contract_check, require, tiny_method
from tfface.testing.exports import BOMB
from tfface.testing.training import check_resume, compare_trainers

__all__ = [
    "BOMB",
    "CHECKS",
    "Case",
    "FewFaces",
    "check_method",
    "check_resume",
    "compare_trainers",
    "contract_check",
    "require",
    "tiny_method",
]


def check_method(name: str, folder: Path) -> None:
    """Runs all checks on a method; raises AssertionError at the first failure."""
    case = Case(name, folder)
    for check in CHECKS.values():
        check(case)
