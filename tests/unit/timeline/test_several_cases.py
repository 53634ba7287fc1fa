"""What is asked of the services for several cases, and how their answers are rated together."""

from support_service.core.domain.references import SourceReferences
from support_service.timeline.aggregator import TimelineEntries
from support_service.timeline.merge import STATUSES_WORST_FIRST, merge_source_statuses, references_not_asked_before


def orders(*ids):
    return {"order": SourceReferences(ids)}


def test_objects_are_asked_for_with_the_first_case_that_names_them():
    """A case that names others too asks for all of its own, so that its cached answer stays whole."""
    wanted = [orders("A"), orders("A"), orders("A", "B"), orders("B"), {"payment": SourceReferences(of_orders=("A",))}]
    assert references_not_asked_before(wanted) == [orders("A"), {}, orders("A", "B"), {}, wanted[-1]]
    by_id_and_order = [{"payment": SourceReferences(("A",))}, {"payment": SourceReferences(of_orders=("A",))}]
    assert references_not_asked_before(by_id_and_order) == by_id_and_order


def test_timeline_is_as_complete_as_its_worst_service():
    """An older answer hides no missing one."""
    for statuses, completeness in (
        (("fresh", "cached"), "complete"),
        (("fresh", "stale"), "stale"),
        (("stale", "unavailable"), "partial"),
        (("fresh", "unavailable"), "partial"),
    ):
        sources = dict(zip(("order", "payment"), map(source, statuses), strict=True))
        assert TimelineEntries({}, sources).completeness == completeness


def source(status, age=None, reason=None):
    return {"status": status, "ageSeconds": age, "reason": reason}


def test_worst_status_and_greatest_age_count():
    for number, worse in enumerate(STATUSES_WORST_FIRST):
        for better in STATUSES_WORST_FIRST[number:]:
            for pair in ((worse, better), (better, worse)):
                assert merge_source_statuses({"order": source(each)} for each in pair) == {"order": source(worse)}
    given = [source("stale", 70.0, "timeout"), source("cached", 90.0, "note"), source("stale", 20.0, "HTTP 503")]
    merged = merge_source_statuses({"order": each} for each in [*given, given[0]])
    assert merged == {"order": source("stale", 90.0, "timeout; HTTP 503")}
