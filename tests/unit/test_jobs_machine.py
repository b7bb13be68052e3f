"""Whatever workers do and messages suffer: each step counts once, each job ends once."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from imagefactory.store.records import Records
from tests.jobs_machine import machine


@pytest.fixture
def begin(empty: Path, tmp_path: Path) -> Iterator[Callable[[], Records]]:
    """Makes records that know nothing, again and again."""
    made: list[Records] = []

    def anew() -> Records:
        for old in made:
            old.close()
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "imagefactory.db"
        shutil.copy(empty, path)
        made.append(Records(path))
        return made[-1]

    yield anew
    made[-1].close()


def test_a_crowd_of_workers(begin: Callable[[], Records]) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    quick = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine(begin), settings=quick)
