"""What the audit log records of a saved view.

Names and filter values may identify a customer, and entries without a case can't be erased, so the log has neither.
"""

from support_service.desk.view_models import StoredView
from support_service.platform.audit.log import FieldChanges


def audited_changes(before: StoredView | None, after: StoredView | None) -> FieldChanges:
    """Return the changes for the audit log: the view's id, its holder and the names of its filters where they differ.

    `before` is None for a new view, `after` for a deleted one. A change also records which fields have new values.
    """
    old, new = (_facts(view) if view else {} for view in (before, after))
    changes = {
        name: (old.get(name), new.get(name))
        for name in ("viewId", "owner", "team", "filters")
        if name == "viewId" or old.get(name) != new.get(name)
    }
    if before and after:
        fields = [name for name in ("name", "query", "team") if getattr(before, name) != getattr(after, name)]
        changes["changedFields"] = (None, fields)
    return changes


def _facts(view: StoredView) -> dict[str, object]:
    return {"viewId": view.id, "owner": view.owner, "team": view.team, "filters": sorted(view.query)}
