"""What holds for every test run: soak tests only with --soak, and nothing is skipped in silence."""

import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.openstack.fixtures",
    "tests.servers.postgres_fixtures",
    "tests.servers.rabbitmq_fixtures",
    "tests.servers.swift_fixtures",
]

pytest.register_assert_rewrite("tests.chaos")  # which asserts for tests

# A property holds however busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Tests that may be skipped, by the beginning of their node id, with the reason for which that is no loss.
MAY_SKIP: dict[str, str] = {}


# A job in the background of a script is started deaf to SIGINT, and so would be every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the tests marked soak, and only these")
    parser.addoption("--seed", type=int, default=random.randrange(1 << 32), help="of the dice")  # noqa: S311
    parser.addoption("--hardened-home", type=Path, help="where to build, or where soe-debian-12 is built already")
    parser.addoption("--built-home", type=Path, help="where to build, or where tiny-debian-12 is built already")


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"dice: --seed {config.getoption('--seed')}"]


@pytest.fixture
def dice(pytestconfig: pytest.Config) -> random.Random:
    """The same with the same --seed, which the header shows."""
    return random.Random(pytestconfig.getoption("--seed"))  # noqa: S311


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    soak = bool(config.getoption("--soak"))
    chosen = [item for item in items if (item.get_closest_marker("soak") is not None) is soak]
    left = [item for item in items if item not in set(chosen)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = chosen


class _Skips:
    """A skipped test fails the run that was meant to run it."""

    def __init__(self) -> None:
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        if self._forbidden() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in self._skipped:
            reason = _reason(nodeid)
            if reason is not None:
                terminalreporter.write_line(f"may be skipped: {nodeid}: {reason}", yellow=True)
        for nodeid in self._forbidden():
            terminalreporter.write_line(f"FAILED because it was skipped: {nodeid}", red=True)

    def _forbidden(self) -> Sequence[str]:
        return [nodeid for nodeid in self._skipped if _reason(nodeid) is None]


def _reason(nodeid: str) -> str | None:
    return next((reason for beginning, reason in MAY_SKIP.items() if nodeid.startswith(beginning)), None)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Skips(), "skips")
