"""The report of a run: a history that is wrong or undecided leaves all its calls in a file."""

from tests.support.histories.checker import MAX_CONCURRENT, Call
from tests.support.histories.clients import History
from tests.support.histories.model import Operation
from tests.support.histories.recording import Histories

SAY = [Call("a", Operation("say", 0, str(number)), 0.0, 1.0, 0) for number in range(MAX_CONCURRENT + 1)]
WRONG = Call("a", Operation("say", 0, "text"), 0.0, 1.0, answer=1)


def recorded(folder, *calls):
    """Return the histories of a run. One of them has these calls."""
    histories = Histories([], "sqlite-36", lambda: True, folder)
    history = History("customer-sqlite-36-0")
    history.calls = [*calls]
    histories.begun.append(history)
    return histories


def test_right_history_leaves_no_file(tmp_path):
    """Nor a report."""
    histories = recorded(tmp_path, *SAY[:3])
    assert ([*histories.errors()], histories.undecided, [*tmp_path.iterdir()]) == ([], [], [])


def test_wrong_history_leaves_its_calls(tmp_path):
    """The report names the file. Its name has the name of the run, so two databases use two files."""
    file = tmp_path / "history-customer-sqlite-36-0.txt"
    (report,) = recorded(tmp_path, WRONG, *SAY[:2]).errors()
    assert str(file) in report
    assert file.read_text().splitlines() == [str(WRONG), *map(str, SAY[:2])]


def test_undecided_history_leaves_its_calls(tmp_path):
    """Nobody could look at it otherwise."""
    histories = recorded(tmp_path, *SAY)
    assert [*histories.errors()] == []
    file = tmp_path / "history-customer-sqlite-36-0.txt"
    reason = f"{len(SAY)} calls are concurrent; at most {MAX_CONCURRENT} can be checked"
    assert histories.undecided == [f"customer-sqlite-36-0: {reason} (all calls are in {file})"]
    assert file.read_text().splitlines() == [*map(str, SAY)]
