/** The views of the queue, as filters of `GET /support/cases`. */

import { AT_RISK } from "./clock.js";
import { agent, can, me } from "../lib/api.js";
import { countMentions } from "../lib/attention.js";
import { t, text } from "../lib/i18n.js";
import { namesAfter } from "../lib/storage.js";

/**
 * @typedef {{id: string, group: "mine" | "team" | "risk" | "saved", name: string, filters: Record<string, any>, count?: number | null,
 *   more?: boolean, late?: number | null, moreLate?: boolean, saved?: any, ids?: () => Promise<string[]>, countUnread?: () => Promise<void>}} View
 *   `ids`: in place of filters; `saved`: as the API has it
 */

const UNFINISHED = "open,pending";

/** Return what the names of this user's drafts begin with, in the browser. */
export function draftPrefix() {
  return `draft:${me.name}:`;
}

/** Return the views that every agent has. @returns {View[]} */
export function builtInViews() {
  /** @type {View} */
  const mentioned = { id: "mentioned", group: "mine", name: t("view.mentioned"), filters: { mentionedAgentId: me.subject ?? me.name, sort: "updated" } };
  mentioned.countUnread = async () => void Object.assign(mentioned, await countMentions());
  /** @type {(View | false)[]} */
  const views = [
    { id: "mine", group: "mine", name: t("view.mine"), filters: { assignedAgentId: agent(), status: UNFINISHED, snoozed: "false", sort: "waiting" } },
    can("messages:write") && { id: "drafts", group: "mine", name: t("view.drafts"), filters: {}, ids: async () => namesAfter(draftPrefix()) },
    can("notifications:read") && mentioned,
    { id: "snoozed", group: "mine", name: t("view.snoozed"), filters: { assignedAgentId: agent(), snoozed: "true", sort: "snoozed" } },
    { id: "unassigned", group: "team", name: t("view.unassigned"), filters: { assignedAgentId: "none", status: UNFINISHED, sort: "waiting" } },
    ...me.teams.map((team) => /** @type {View} */ ({
      id: `team:${team}`,
      group: "team",
      name: t("view.team", { team }),
      filters: { team, status: UNFINISHED, sort: "waiting" },
    })),
    { id: "waiting", group: "team", name: t("view.waiting"), filters: { status: UNFINISHED, sort: "waiting" } },
    { id: "all", group: "team", name: t("view.all"), filters: {} },
    { id: "due", group: "risk", name: t("view.due"), filters: { dueWithin: AT_RISK, sort: "due" } },
  ];
  return views.filter((view) => view !== false);
}

/** Take the numbers of a view as the API has them. @param {View} view @param {any} counted */
export function takeCounts(view, { count, more, late, moreLate }) {
  return Object.assign(view, { count, more, late, moreLate });
}

/**
 * Return a saved view of the API as a view of the queue.
 * @param {any} saved
 * @returns {View}
 */
export function savedView(saved) {
  const filters = Object.fromEntries(
    Object.entries(saved.query).map(([name, value]) => [name, name === "tag" ? value : Array.isArray(value) ? value.join(",") : text(value)]),
  );
  const { id, name } = saved;
  return takeCounts({ id: `saved:${id}`, group: "saved", name, filters, saved }, saved);
}
