/** The parts of the queue: its views as filters of `GET /support/cases`, the search and filters above its list, and its rows. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agent, me, query } from "../lib/api.js";
import { dateAndTime, number, since, t, word } from "../lib/i18n.js";
import { go, html } from "../lib/page.js";
import { slaMark } from "./sla.js";

/** @typedef {{id: string, name: string, filters: Record<string, any>, count?: number | null, more?: boolean}} View */

const UNFINISHED = "open,pending";
const AT_RISK = "PT2H"; // a clock that is due within this time, or overdue
const CHOICES = {
  status: ["open,pending", "open", "pending", "resolved", "closed"],
  priority: ["urgent", "high", "normal", "low"],
  sort: ["waiting", "due", "updated", "newest"],
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
    { id: "due", name: t("view.due"), filters: { dueWithin: AT_RISK, sort: "due" } },
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

/** Open the case of a row that was clicked beside its links, unless text was being selected. @param {MouseEvent} event */
function openRow({ target, currentTarget }) {
  if (/** @type {HTMLElement} */ (target).closest("a") || getSelection()?.toString()) return;
  const link = /** @type {HTMLElement} */ (currentTarget).querySelector("a");
  link?.focus();
  link?.click();
}

/**
 * @param {any} item
 * @param {{now: number, active: boolean, viewers: string[]}} shown
 */
export function queueRow(item, { now, active, viewers }) {
  return html`
    <tr role="row" data-case=${item.id} class=${active ? "active" : ""} ?data-left=${item.left} @click=${openRow}>
      <th scope="row" role="rowheader" class="subject">
        <a href="/console/cases/${encodeURIComponent(item.id)}"><bdi>${item.subject}</bdi></a>
        ${item.tags.length ? html`<span class="tags">${item.tags.map((/** @type {string} */ tag) => html`<bdi class="tag">${tag}</bdi>`)}</span>` : nothing}
        ${viewers.length ? html`<span class="viewers">${t("queue.viewed_by", { names: viewers.join(", ") })}</span>` : nothing}
        ${item.match ? matchLine(item.match) : nothing}
      </th>
      <td role="cell" class="customer">
        ${item.customerId
          ? html`<a href="/console/customers/${encodeURIComponent(item.customerId)}"><bdi>${item.customerId}</bdi></a>`
          : html`<span class="muted">–</span>`}
      </td>
      <td role="cell" class="status"><span class="pill" data-status=${item.status}>${word("status", item.status)}</span></td>
      <td role="cell" class="priority"><span class="priority-mark" data-priority=${item.priority}>${word("priority", item.priority)}</span></td>
      <td role="cell" class="waiting">${waiting(item, now)} ${slaMark(item, now)}</td>
      <td role="cell" class="assignee">
        ${item.assignedAgentId ? html`<bdi>${item.assignedAgentId}</bdi>` : html`<span class="muted">${t("case.unassigned")}</span>`}
        ${item.team ? html`<bdi class="muted team">${item.team}</bdi>` : nothing}
      </td>
    </tr>
  `;
}

/**
 * @param {any} item
 * @param {number} now
 */
function waiting(item, now) {
  if (!item.waitingSince) return html`<span class="muted" aria-label=${t("queue.not_waiting")}>–</span>`;
  return html`<time datetime=${item.waitingSince} title=${dateAndTime(item.waitingSince)}>${since(item.waitingSince, now)}</time>`;
}

/** Show where a case matches the search, with the words marked. @param {{field: string, snippet: string, highlights: number[][]}} match */
function matchLine(match) {
  const characters = [...match.snippet]; // highlights count code points
  const parts = [];
  let from = 0;
  for (const [start, end] of match.highlights) {
    parts.push(characters.slice(from, start).join(""), html`<mark>${characters.slice(start, end).join("")}</mark>`);
    from = end;
  }
  parts.push(characters.slice(from).join(""));
  return html`<bdi class="match">${parts}</bdi>`;
}
