"""A check file as tests of pytest: one test a check, the model loaded once."""

import pytest

import elimtool

REPORT = elimtool.run_checks("checks/capitals.yaml")


@pytest.mark.parametrize("result", REPORT.results, ids=lambda result: result.check.id)
def test_model(result):
    assert result.status == "passed", "\n".join(finding.text for finding in result.bad)
