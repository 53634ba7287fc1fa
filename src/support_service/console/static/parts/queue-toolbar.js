/** The views of the queue, and the search and filters above its list. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { query } from "../lib/api.js";
import { number } from "../lib/format.js";
import { t, word } from "../lib/i18n.js";
import { go } from "../lib/router.js";

const CHOICES = {
  status: ["open,pending", "open", "pending", "resolved", "closed"],
  priority: ["urgent", "high", "normal", "low"],
  sort: ["waiting", "updated", "newest"],
};

/**
 * @param {import("../lib/views.js").View} view
 * @param {import("../lib/views.js").View} current
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
