/** The views of the queue: which cases each shows, as the filters of `GET /support/cases`. */

import { t } from "./i18n.js";
import { agent, me } from "./me.js";

/** @typedef {{id: string, name: string, filters: Record<string, any>, count?: number | null, more?: boolean}} View */

const UNFINISHED = "open,pending";
const EXACT = ["status", "priority", "assignedAgentId", "team", "channel", "customerId"]; // filters by a field's value

/** Return the views that every agent has. */
export function builtInViews() {
  /** @type {View[]} */
  const views = [
    { id: "mine", name: t("view.mine"), filters: { assignedAgentId: agent(), status: UNFINISHED, sort: "waiting" } },
    { id: "unassigned", name: t("view.unassigned"), filters: { assignedAgentId: "none", status: UNFINISHED, sort: "waiting" } },
    ...me.teams.map((team) => ({
      id: `team:${team}`,
      name: t("view.team", { team }),
      filters: { team, status: UNFINISHED, sort: "waiting" },
    })),
    { id: "waiting", name: t("view.waiting"), filters: { status: UNFINISHED, sort: "waiting" } },
    { id: "all", name: t("view.all"), filters: {} },
  ];
  return views;
}

/**
 * Return a saved view of the API as a view of the queue.
 * @param {any} saved
 * @returns {View}
 */
export function savedView(saved) {
  const filters = Object.fromEntries(
    Object.entries(saved.query).map(([name, value]) => [name, Array.isArray(value) && name !== "tag" ? value.join(",") : value]),
  );
  return { id: `saved:${saved.id}`, name: saved.name, filters, count: saved.count, more: saved.more };
}

/**
 * Return whether a case belongs to a list with these filters; null if only the service can tell.
 * @param {Record<string, any>} item
 * @param {Record<string, any>} filters
 */
export function matches(item, filters) {
  const { sort, tag = [], ...others } = filters;
  if (![tag].flat().every((each) => item.tags.includes(each))) return false;
  if (sort === "waiting" && item.waitingSince === null) return false;
  let isCertain = true;
  for (const [name, value] of Object.entries(others)) {
    if (!value) continue;
    if (!EXACT.includes(name)) isCertain = false;
    else if (value === "none" ? item[name] !== null : !String(value).split(",").includes(item[name])) return false;
  }
  return isCertain || null;
}
