"""Statements whose best plan depends on the values of their parameters.

PostgreSQL plans a statement that was run five times for values in general, if it expects that to cost no more: a list
of the cases of a team is read in order then, which takes seconds for a team with few cases. SQLite plans no statement
by values.
"""

from typing import TypeVar

from sqlalchemy.sql.base import Executable

Statement = TypeVar("Statement", bound=Executable)
_OPTION = "support_planned_by_values"


def planned_by_values(statement: Statement) -> Statement:
    """Mark a read that PostgreSQL shall plan for each execution, which takes a millisecond and two round trips."""
    return statement.execution_options(**{_OPTION: True})


def is_planned_by_values(statement: Executable) -> bool:
    """Return whether a statement is marked."""
    return _OPTION in statement.get_execution_options()
