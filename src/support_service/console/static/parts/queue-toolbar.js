/** The views of the queue, as filters of `GET /support/cases`, and the search and filters above its list. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { query } from "../lib/api.js";
import { number } from "../lib/format.js";
import { t, word } from "../lib/i18n.js";
import { agent, me } from "../lib/me.js";
import { go } from "../lib/router.js";

/** @typedef {{id: string, name: string, filters: Record<string, any>, count?: number | null, more?: boolean}} View */

const UNFINISHED = "open,pending";
const EXACT = ["status", "priority", "assignedAgentId", "team", "channel", "customerId"]; // filters by a field's value
const CHOICES = {
  status: ["open,pending", "open", "pending", "resolved", "closed"],
  priority: ["urgent", "high", "normal", "low"],
  sort: ["waiting", "updated", "newest"],
};

/**
 * @param {View} view
 * @param {View} current
 */
export function viewLink(view, current) {
  const count = view.count === undefined || view.count === null ? nothing : number(view.count) + (view.more ? "+" : "");
  return html`<a href="/console/?${query({ view: view.id })}" aria-current=${view.id === current.id ? "true" : nothing}
    ><bdi>${view.name}</bdi> <span class="count">${count}</span></a
  >`;
}

/** @param {import("../pages/queue.js").QueuePage} page */
export function toolbar(page) {
  return html`
    <form class="toolbar" role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <select
        class="view-choice"
        aria-label=${t("queue.views")}
        @change=${(/** @type {any} */ event) => go(`/console/?${query({ view: event.target.value })}`)}
      >
        ${page.views.map((view) => html`<option value=${view.id} .selected=${view.id === page.view.id}>${view.name}</option>`)}
      </select>
      <input
        id="search"
        type="search"
        aria-label=${t("queue.search")}
        placeholder="${t("queue.search")}  ( / )"
        maxlength="200"
        .value=${page.parameters.get("q") ?? ""}
        @input=${(/** @type {any} */ event) => page.search(event.target.value)}
        @keydown=${(/** @type {KeyboardEvent} */ event) => page.leaveSearch(event)}
      />
      ${choice(page, "status")} ${choice(page, "priority")} ${choice(page, "sort")}
    </form>
  `;
}

/**
 * @param {import("../pages/queue.js").QueuePage} page
 * @param {"status" | "priority" | "sort"} name
 */
function choice(page, name) {
  const current = page.filters[name] ?? "";
  return html`<select aria-label=${t(`filter.${name}`)} @change=${(/** @type {any} */ event) => page.filter(name, event.target.value)}>
    ${name === "sort" ? nothing : html`<option value="" .selected=${!current}>${t(`filter.any_${name}`)}</option>`}
    ${CHOICES[name].map(
      (value) =>
        html`<option value=${value} .selected=${value === current || (value === "newest" && !current)}>${word(name, value)}</option>`,
    )}
  </select>`;
}

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
