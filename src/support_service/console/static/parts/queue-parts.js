/** The parts of the queue: the rail of its views, the search and filters above its list, and its rows. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { guard } from "../vendor/lit-html/directives/guard.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { can, me, query } from "../lib/api.js";
import { isUnread } from "../lib/case-list.js";
import { clock, clockWithSeconds, dateAndTime, dayAndMonth, dayKey, number, t, text, word } from "../lib/i18n.js";
import { go, html } from "../lib/page.js";
import { live } from "../lib/live.js";
import "./choice-menu.js";
import { urgentClock } from "./clock.js";
import { peopleItems, person } from "./person.js";

/**
 * @typedef {import("../pages/queue.js").QueuePage} QueuePage
 * @typedef {import("./choice-menu.js").Item} Item
 * @typedef {import("./views.js").View} View
 */

const GROUPS = /** @type {const} */ (["mine", "team", "risk", "saved"]);
const FILTERS = /** @type {const} */ (["assignedAgentId", "team", "tag", "channel", "status", "priority"]);
const SHOWN_TAGS = 2;
const TIMES_FRESH = 10_000; // ms for which the times of a row are not computed again
/** @type {Record<string, string[]>} */
const CHOICES = {
  channel: ["email", "chat", "phone", "web", "mobile", "social", "sms", "marketplace", "api"],
  status: ["open,pending", "open", "pending", "resolved", "closed"],
  priority: ["urgent", "high", "normal", "low"],
  sort: ["waiting", "due", "updated", "newest", "snoozed"],
};
const CHAT = "M2 3h12v8H7l-3 3v-3H2z";
const PERSON = "M8 2a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM2.5 14c0-3 2.5-4.5 5.5-4.5s5.5 1.5 5.5 4.5";
/** Drawings of 16 by 16, as paths. @type {Record<string, string>} */
const ICONS = {
  email: "M2 4h12v9H2zM2 4l6 5 6-5",
  chat: CHAT,
  sms: CHAT,
  phone: "M4 2h2l1.5 3.5L6 7c.7 1.5 1.5 2.3 3 3l1.5-1.5L14 10v2c0 1-1 2-2 2C7 14 2 9 2 4c0-1 1-2 2-2z",
  web: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM2 8h12M8 2c-4 4-4 8 0 12M8 2c4 4 4 8 0 12",
  mobile: "M5 1.5h6v13H5zM7 12.5h2",
  social: PERSON,
  marketplace: "M2 6l1-4h10l1 4zM3 6v8h10V6",
  api: "M5 4 1.5 8 5 12M11 4l3.5 4L11 12",
  other: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  draft: "M3 13l1-3.5L11.5 2 14 4.5 6.5 12z",
  low: "M3 13v-3",
  normal: "M3 13v-3M8 13V7",
  high: "M3 13v-3M8 13V7M13 13V3",
  urgent: "M8 2v7M8 12v2",
};

/** @param {unknown} given its name */
export function icon(given) {
  const name = Object.hasOwn(ICONS, text(given)) ? text(given) : "other";
  return html`<svg class="icon ${name}" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]}></path></svg>`;
}

/** The views, in groups. @param {QueuePage} page */
export function rail(page) {
  const current = page.shownView ?? page.view;
  return html`<nav class="views" aria-label=${t("queue.views")}>
    ${GROUPS.map((group) => {
      const views = page.views.filter((view) => view.group === group);
      if (!views.length && (group !== "saved" || !can("views:write"))) return nothing;
      return html`<section aria-labelledby="views-${group}">
        <h2 id="views-${group}">${t(`view_group.${group}`)}</h2>
        ${views.map((view) => viewLink(view, view.id === current.id, view.id === page.view.id))}
        ${group === "saved" && can("views:write") ? html`<button class="plain" @click=${page.saveView}>${t("queue.save_view")}</button>` : nothing}
      </section>`;
    })}
  </nav>`;
}

/**
 * @param {View} view
 * @param {boolean} isShown
 * @param {boolean} isAsked
 */
function viewLink(view, isShown, isAsked) {
  const { count, more, late, moreLate } = view;
  return html`<a href="/console/?${query({ view: view.id })}" aria-current=${isShown ? "true" : nothing} aria-busy=${isAsked && !isShown}
    ><bdi>${view.name}</bdi>
    ${late ? html`<span class="late">${t("queue.late", { shown: number(late) + (moreLate ? "+" : "") })}</span>` : nothing}
    <span class="count">${count === undefined || count === null ? nothing : number(count) + (more ? "+" : "")}</span></a
  >`;
}

/** The name of the view, the search, and the filters. @param {QueuePage} page */
export function head(page) {
  const current = page.shownView ?? page.view;
  return html`
    <div class="queue-head">
      <h1>${current.name}</h1>
      <select class="view-choice" aria-label=${t("queue.views")} @change=${(/** @type {any} */ event) => go(`/console/?${query({ view: event.target.value })}`)}>
        ${GROUPS.map(
          (group) =>
            html`<optgroup label=${t(`view_group.${group}`)}>
              ${page.views.map((view) => (view.group === group ? html`<option value=${view.id} .selected=${view.id === page.view.id}>${view.name}</option>` : nothing))}
            </optgroup>`,
        )}
      </select>
      <form role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
        <input
          id="search"
          type="search"
          aria-label=${t("queue.search")}
          placeholder="${t("queue.search_hint")}  ( / )"
          maxlength="200"
          autocomplete="off"
          .value=${page.parameters.get("q") ?? ""}
          @input=${(/** @type {any} */ event) => page.search(event.target.value)}
          @keydown=${(/** @type {KeyboardEvent} */ event) => page.leaveSearch(event)}
        />
      </form>
      ${page.view.ids ? nothing : chips(page)}
    </div>
  `;
}

/** One chip for each filter that can be chosen, and for each other one that is set. @param {QueuePage} page */
function chips(page) {
  const { filters } = page;
  const others = Object.keys(filters).filter((name) => ![...FILTERS, "q", "sort"].includes(name));
  return html`<div class="queue-filters" role="group" aria-label=${t("filter.title")}>
    ${FILTERS.map((name) => chip(page, name))}
    ${others.map((name) => html`<span class="queue-filter" data-set><span>${word("filter", name)}: <bdi>${word(name, filters[name])}</bdi></span>${removal(page, name)}</span>`)}
    <span class="queue-filter sort"
      ><choice-menu
        .label=${t("filter.sorted", { sort: word("sort", filters.sort ?? "newest") })}
        .items=${CHOICES.sort.map((value) => ({ value, text: word("sort", value) }))}
        .value=${filters.sort ?? "newest"}
        @choose=${(/** @type {CustomEvent} */ { detail }) => page.filter("sort", detail)}
      ></choice-menu
      >${page.parameters.has("sort") ? removal(page, "sort", page.view.filters.sort ?? "") : nothing}</span
    >
    ${can("views:write") ? html`<button class="plain save" @click=${page.saveView}>${t("queue.save_view")}</button>` : nothing}
  </div>`;
}

/**
 * @param {QueuePage} page
 * @param {typeof FILTERS[number]} name
 */
function chip(page, name) {
  const value = page.filters[name];
  const items = filterItems(page, name);
  const shown = [value ?? []].flat().map((each) => items.find((item) => item.value === each)?.text ?? each).join(", ");
  return html`<span class="queue-filter" ?data-set=${value}
    ><choice-menu
      .label=${value ? t("filter.set", { name: t(`filter.${name}`), value: shown }) : t(`filter.${name}`)}
      .items=${items}
      .value=${value ?? null}
      .multiple=${name === "tag"}
      .creatable=${name === "tag" || name === "channel"}
      @choose=${(/** @type {CustomEvent} */ { detail }) => page.filter(name, detail)}
    ></choice-menu
    >${value ? removal(page, name) : nothing}</span
  >`;
}

/** @param {QueuePage} page @param {string} name @param {string} [value] what is in its place then */
function removal(page, name, value = "") {
  return html`<button class="remove" aria-label=${t("filter.remove", { name: word("filter", name) })} @click=${() => page.filter(name, value)}>×</button>`;
}

/**
 * @param {QueuePage} page
 * @param {typeof FILTERS[number]} name
 * @returns {Item[]}
 */
function filterItems(page, name) {
  if (name === "assignedAgentId") return peopleItems(page.people, "none");
  if (name === "team") return teamItems(page);
  if (name === "tag") return knownTags(page).map((value) => ({ value, text: value }));
  return CHOICES[name].map((value) => ({ value, text: word(name, value) }));
}

/** @param {QueuePage} page @returns {Item[]} */
export function teamItems(page) {
  const teams = new Set([...me.teams, ...page.people.flatMap((each) => each.teams), ...page.cases.items.flatMap(({ team }) => team ?? [])]);
  return [...[...teams].sort().map((value) => ({ value, text: value })), { value: "none", text: t("queue.no_team") }];
}

/** Return the tags of the cases that are shown. @param {QueuePage} page @returns {string[]} */
export function knownTags(page) {
  return [...new Set(page.cases.items.flatMap(({ tags }) => tags))].sort();
}

/** What the list has, what is new, and whether it is old: a line whose height is kept free. @param {QueuePage} page */
export function strip(page) {
  const { waiting } = page.cases;
  const { shown, action = nothing } = stripText(page);
  return html`<div class="strip" data-old=${(page.isOld && shown !== nothing) || nothing}>
    <span role="status">${shown}</span>
    ${action}
    <span class="news" role="status">
      ${waiting.size ? html`<button class="primary" @click=${page.load}>${t("queue.new", { n: waiting.size })} <kbd>n</kbd></button>` : nothing}
    </span>
  </div>`;
}

/** @param {QueuePage} page @returns {{shown: unknown, action?: unknown}} */
function stripText(page) {
  const { cases, shownView, view, everywhere, filters } = page;
  const { items, state, message, nextCursor, readAt } = cases;
  const time = clockWithSeconds(readAt);
  const size = number(items.length) + (nextCursor ? "+" : "");
  const action = html`<button @click=${page.load}>${t("app.retry")}</button>`;
  if (state === "failed") {
    if (!items.length || !shownView) return { shown: nothing }; // the page says it in place of the rows
    const isOther = shownView.id !== view.id;
    const what = isOther ? t("queue.other_failed", { asked: view.name, shown: shownView.name, time }) : t("queue.old", { time });
    return { shown: html`<b>${what}</b> <span class="reason">${message}</span>`, action };
  }
  if (!navigator.onLine) return { shown: html`<b>${t("queue.offline", { time: clockWithSeconds(live.state === "off" ? readAt : live.asOf) })}</b>`, action };
  if (state === "loading" && shownView?.id !== view.id) return { shown: t("queue.loading", { name: view.name }) };
  if (everywhere?.count && filters.q) {
    const found = number(everywhere.count) + (everywhere.more ? "+" : "");
    return { shown: t("queue.found", { here: size, all: found }), action: html`<a href="/console/?${query({ view: "all", q: filters.q })}">${t("queue.show_all")}</a>` };
  }
  const isWhole = shownView && query(shownView.filters) === page.shown && nextCursor && shownView.count;
  if (isWhole) return { shown: t("queue.part", { shown: size.replace("+", ""), all: number(shownView.count) + (shownView.more ? "+" : "") }) };
  return { shown: items.length ? t("queue.size", { n: nextCursor ? 0 : items.length, shown: size }) : nothing };
}

/** @param {QueuePage} page */
export function queueTable(page) {
  const { items, state, rendered } = page.cases;
  const now = Date.now();
  return html`
    <table
      class="cases"
      role="table"
      aria-busy=${state === "loading" || rendered < items.length}
      ?data-selecting=${page.selected.size}
      ?data-old=${page.isOld}
      @focusin=${page.remember}
      @click=${page.clickRow}
      @mousedown=${(/** @type {MouseEvent} */ event) => event.shiftKey && event.preventDefault()}
    >
      <thead role="rowgroup">
        <tr role="row">
          <th scope="col" role="columnheader" class="select">
            ${can("cases:write")
              ? html`<label><input type="checkbox" aria-label=${t("queue.select_all")} .checked=${page.selected.size >= items.length} .indeterminate=${page.selected.size > 0 && page.selected.size < items.length} @click=${page.toggleAll} /></label>`
              : nothing}
          </th>
          ${/** @type {const} */ (["priority", "subject", "customer", "assignee", "time"]).map(
            (name) => html`<th scope="col" role="columnheader" class=${name}>${t(`column.${name}`)}</th>`,
          )}
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${repeat(
          items.slice(0, rendered),
          (item) => item.id,
          (item) => queueRow(page, item, now),
        )}
      </tbody>
    </table>
  `;
}

/**
 * A row, which is rendered again only if it shows something else: a key that moves the focus changes two of hundreds.
 * @param {QueuePage} page
 * @param {any} item
 * @param {number} now
 */
function queueRow(page, item, now) {
  const shown = {
    isActive: item.id === page.active,
    isSelected: page.selected.has(item.id),
    isUnread: isUnread(item),
    hasDraft: page.drafts.has(item.id),
    viewers: live.othersIn(item.id).map(({ name }) => page.nameOf(name)).join(", "),
  };
  const { people, cases } = page;
  return guard([item, people, cases.names, Math.floor(now / TIMES_FRESH), ...Object.values(shown)], () => row(page, item, now, shown));
}

/**
 * @param {QueuePage} page
 * @param {any} item
 * @param {number} now
 * @param {{isActive: boolean, isSelected: boolean, isUnread: boolean, hasDraft: boolean, viewers: string}} shown
 */
function row(page, item, now, { isActive, isSelected, isUnread, hasDraft, viewers }) {
  const message = item.match?.messageId;
  return html`
    <tr role="row" data-case=${item.id} class="${isActive ? "active" : ""} ${isSelected ? "selected" : ""}" ?data-left=${item.isGone}>
      <td role="cell" class="select">
        ${can("cases:write") ? html`<label><input type="checkbox" aria-label=${t("queue.select", { subject: item.subject })} .checked=${isSelected} /></label>` : nothing}
      </td>
      <td role="cell" class="priority" data-priority=${item.priority}>${icon(item.priority)} ${word("priority", item.priority)}</td>
      <th scope="row" role="rowheader" class="subject">
        <span class="line">
          ${isUnread ? html`<span class="unread-dot" title=${t("queue.unread")}><span class="visually-hidden">${t("queue.unread")}</span></span>` : nothing}
          <a href="/console/cases/${encodeURIComponent(item.id)}${message ? `?${query({ message })}` : ""}"><bdi>${item.subject}</bdi></a>
          ${statusMark(item)} ${item.tags.length ? tagMarks(item.tags) : nothing}
          ${item.isGone ? html`<span class="gone">${t("queue.left")}</span>` : nothing}
          ${viewers ? html`<span class="viewers">${t("queue.viewed_by", { names: viewers })}</span>` : nothing}
        </span>
        <span class="line words">${item.match ? matchLine(item.match) : html`<bdi>${item.lastCustomerMessage?.text ?? ""}</bdi>`}</span>
      </th>
      <td role="cell" class="customer">
        ${item.customerId ? html`<a href="/console/customers/${encodeURIComponent(item.customerId)}">${person(item.customerId, item.customerName)}</a>` : html`<span class="muted">–</span>`}
      </td>
      <td role="cell" class="assignee">
        ${item.assignedAgentId ? person(item.assignedAgentId, page.nameOf(text(item.assignedAgentId))) : html`<span class="muted">${t("case.unassigned")}</span>`}
        ${item.team ? html`<span class="muted team"><bdi>${item.team}</bdi></span>` : nothing}
      </td>
      <td role="cell" class="time">
        <span class="line">${timeMark(item, now)}</span>
        <span class="line muted">
          ${hasDraft ? html`<span class="draft">${icon("draft")} ${t("queue.draft")}</span>` : nothing}
          <span class="channel" title=${word("channel", item.channel)}>${icon(item.channel)}<span class="visually-hidden">${word("channel", item.channel)}</span></span>
        </span>
      </td>
    </tr>
  `;
}

/** @param {any} item */
function statusMark({ status, snoozedUntil }) {
  if (status === "open") return nothing;
  if (!snoozedUntil) return html`<span class="pill" data-status=${status}>${word("status", status)}</span>`;
  const time = `${dayAndMonth(dayKey(snoozedUntil))}, ${clock(snoozedUntil)}`;
  return html`<span class="pill" data-status=${status} title=${dateAndTime(snoozedUntil)}>${t("queue.snoozed", { time })}</span>`;
}

/** @param {string[]} tags */
function tagMarks(tags) {
  const hidden = tags.length - SHOWN_TAGS;
  return html`<span class="tags">
    ${tags.slice(0, SHOWN_TAGS).map((tag) => html`<bdi class="tag">${tag}</bdi>`)}
    ${hidden > 0 ? html`<span class="tag" title=${tags.slice(SHOWN_TAGS).join(", ")}>+${hidden}</span>` : nothing}
  </span>`;
}

/** The most urgent clock, or how long the customer waits. @param {any} item @param {number} now */
function timeMark(item, now) {
  const clock = urgentClock(item, now);
  if (!clock) return html`<span class="muted" aria-label=${t("queue.not_waiting")} role="img">–</span>`;
  return html`<span class="clock" data-level=${clock.level} title=${clock.title}
    ><bdi aria-hidden="true">${clock.text}</bdi><span class="visually-hidden">${clock.title}</span></span
  >`;
}

/** Show where a case matches the search, with the words marked. @param {{snippet: string, highlights: number[][]}} match */
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
