"""Which tests `make test-near` chooses for a change."""

from pathlib import Path

import pytest

from tests.near import Choice, Record, choose, lines_of, parts_of

STORE = "src/support_service/desk/store.py"
BEFORE = '''
LIMIT = 1

class Store:
    size = 2

    def read(self):
        return LIMIT

    def write(self):
        """Write."""
        return 0
'''


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(STORE, BEFORE)
    write("tests/unit/desk/test_store.py", "def test_read(): ...\ndef test_write(): ...\n")
    write("tests/app/desk/test_pages.py", "@pytest.mark.long\ndef test_slow(): ...\nasync def test_rules_json(): ...\n")


@pytest.fixture
def record():
    """Which test runs which function. One of the tests is no more."""
    read, wrote, gone = (f"tests/unit/desk/test_store.py::test_{name}" for name in ("read", "write", "gone"))
    return Record("c", {read: 1, wrote: 2}, {STORE: {"Store.read": [read, gone], "Store.write": [wrote]}})


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def chosen(record, *changed):
    """Return the names of the tests that are chosen, and the files that run whole."""
    choice = choose(changed, record, lambda path: BEFORE if path == STORE else "")
    tests, _, _ = choice.within(60, record)
    return {test.partition("::")[2] for test in tests} | {*choice.always}


def test_tests_of_changed_functions_run(record, subtests):
    """A class or a module concerns its functions. A function without tests in the record concerns its folders."""
    both = {"test_read", "test_write"}
    for old, new, expected in (
        ("return 0", "return 1", {"test_write"}),
        ("return 0", "return 0  # a comment", set()),
        ('    """Write."""', '    """Write more."""', {"test_write"}),
        ("size = 2", "size = 3", both),
        ("LIMIT = 1", "LIMIT = 2", both),
        ("    def write", "    def new(self): ...\n\n    def write", both | {"test_rules_json"}),
    ):
        with subtests.test(new):
            write(STORE, BEFORE.replace(old, new))
            assert chosen(record, STORE) == expected


def test_folders_of_the_package_run_without_a_record():
    """Long tests of its folders do not. A helper runs the modules that import it."""
    write(STORE, BEFORE.replace("return 0", "return 1"))
    assert chosen(Record(), STORE) == {"test_read", "test_write", "test_rules_json"}
    write("tests/support/clock.py", "def turn(): ...\n")
    write("tests/unit/desk/test_time.py", "from tests.support.clock import turn\ndef test_time(): ...\n")
    assert chosen(Record(), "tests/support/clock.py") == {"test_time"}


def test_changed_and_new_test_files_run_whole(record):
    """A deleted one does not."""
    changed = "tests/app/desk/test_pages.py"
    assert chosen(record, changed, "tests/unit/test_deleted.py") == {changed}


def test_files_that_are_not_python_run_the_tests_that_name_them(record):
    """A page of the console runs the tests of that page. Other files run tests that name them, or else their folder."""
    write("tests/integration/console/test_queue.py", "def test_queue(): ...\n")
    write("tests/integration/console/test_case.py", "def test_case(): ... # toast\n")
    write("tests/integration/observability/test_limits.py", "def test_alert(): ... # grafana/\n")
    write("tests/unit/desk/test_store.py", "def test_read(): open('rules.json')\n")
    static = "src/support_service/console/static"
    assert chosen(record, f"{static}/parts/queue-bulk.js") == {"test_queue"}
    assert chosen(record, f"{static}/parts/toast.js") == {"test_case"}
    assert chosen(record, f"{static}/app.css") == {"test_queue", "test_case"}
    assert chosen(record, "grafana/build.py") == {"test_alert"}
    assert chosen(record, "elsewhere/rules.json") == {"test_read"}
    assert chosen(record, "docs/README.md") == set()


def test_tests_that_say_most_in_their_time_run_first():
    """A test that alone runs a changed function comes before tests of a function which all run."""
    choice, record = Choice(), Record("c", {"a": 1, "b": 1, "c": 3})
    choice.add("hot", ["a", "b", "c"])
    choice.add("rare", ["c"])
    assert choice.within(5, record) == (["c", "a", "b"], [], 5)
    assert choice.within(4, record) == (["c", "a"], ["b"], 4)


def test_lines_belong_to_the_body_of_a_function():
    """Lines that run at an import belong to none."""
    assert lines_of(BEFORE, range(1, 13)) == {"Store.read": [8], "Store.write": [11, 12]}
    assert {*parts_of(BEFORE)} == {"", "Store.", "Store.read", "Store.write"}


def test_record_is_read_as_it_was_written(record):
    """Tests that failed to be measured are not in it."""
    Path("build").mkdir()
    record.write()
    read = Record.read()
    assert (read.commit, read.seconds, read.tests[STORE]["Store.write"]) == ("c", record.seconds, [*record.seconds][1:])
