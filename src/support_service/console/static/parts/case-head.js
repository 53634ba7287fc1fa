/** The head of a case in one line: what it is about, its place in the list, and what can be changed. Below it, problems of sources in words. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { clock, dateAndTime, duration, t, text, word } from "../lib/i18n.js";
import { agent, can, me } from "../lib/api.js";
import { html, queueLeft } from "../lib/page.js";
import { urgentClock } from "./clock.js";
import "./choice-menu.js";
import { nameIn, peopleItems, person } from "./person.js";

/** The statuses that a case can get from each status, as the API allows them. */
const NEXT = { open: ["pending", "resolved", "closed"], pending: ["open", "resolved", "closed"], resolved: ["open", "pending", "closed"], closed: ["open"] };
const PRIORITIES = ["urgent", "high", "normal", "low"];
const LONGEST_REASON = 80; // characters
const SWITCHED_OFF = /^switched off until (?:(\S+) )?(\d\d:\d\d)Z(?:: (.*))?$/s; // what the service says of an override

/** @typedef {import("./choice-menu.js").Item} Item */

/** @param {import("../pages/case.js").CasePage} page */
export function caseHeader(page) {
  const item = page.detail;
  const isWritable = can("cases:write");
  const statuses = [item.status, .../** @type {string[]} */ (NEXT[/** @type {keyof typeof NEXT} */ (item.status)] ?? [])];
  return html`
    <header class="case-head">
      <a class="back" href=${queueLeft.address} aria-label=${t("case.back")} title="${t("case.back")} (u)">‹</a>
      ${place(page)}
      <h1 dir="auto" title=${item.subject}>${item.subject}</h1>
      ${isWritable
        ? html`${menu(page, "status", statuses.map((value) => ({ value, text: word("status", value) })))}
          ${menu(page, "priority", PRIORITIES.map((value) => ({ value, text: word("priority", value) })))} ${assignee(page)}`
        : html`<span class="pill" data-status=${item.status}>${word("status", item.status)}</span> <span>${word("priority", item.priority)}</span>
          ${item.assignedAgentId ? html`<span class="assignee">${person(item.assignedAgentId, nameIn(item.names, item.assignedAgentId))}</span>` : nothing}`}
      ${isWritable && item.assignedAgentId !== agent() ? html`<button class=${item.assignedAgentId ? nothing : "primary"} @click=${() => page.run("claim")}>${t("case.claim")}</button>` : nothing}
      ${clockOf(item)} ${actions(page)}
      <button class="plain details-button" @click=${() => page.showDetails()}>${t("aside.title")}</button>
    </header>
  `;
}

/** Show which of the list's cases it is, with the ways to the ones beside it. @param {import("../pages/case.js").CasePage} page */
function place({ caseId }) {
  const index = queueLeft.ids.indexOf(caseId);
  if (index < 0) return nothing;
  return html`<span class="place">${t("case.place", { n: index + 1, all: queueLeft.ids.length })}</span>`;
}

/**
 * @param {import("../pages/case.js").CasePage} page
 * @param {"status" | "priority"} name
 * @param {Item[]} items
 */
function menu(page, name, items) {
  const value = text(page.detail[name]);
  return html`<choice-menu
    class="of-${name}"
    data-value=${value}
    .name=${`${t(`filter.${name}`)}: ${word(name, value)}`}
    .label=${html`<span class=${name === "status" ? "pill" : "priority-name"} data-status=${value} data-priority=${value}>${word(name, value)}</span>`}
    .items=${items}
    .value=${value}
    @choose=${(/** @type {CustomEvent<string>} */ { detail }) => detail !== value && page.run("change", { [name]: detail })}
  ></choice-menu>`;
}

/** @param {import("../pages/case.js").CasePage} page */
function assignee(page) {
  const { assignedAgentId, names, team } = page.detail;
  const value = text(assignedAgentId);
  const label = value ? person(value, nameIn(names, value)) : html`<span class="muted">${t("case.unassigned")}</span>`;
  return html`<choice-menu
    class="of-assignee"
    @pointerover=${() => page.people.length || page.loadPeople()}
    @focusin=${() => page.people.length || page.loadPeople()}
    .label=${html`<span class="visually-hidden">${t("field.assignedAgentId")}: </span>${label}${team ? html` <bdi class="tag">${team}</bdi>` : nothing}`}
    .items=${peopleItems(page.people, "")}
    .value=${value}
    @choose=${(/** @type {CustomEvent<string>} */ { detail }) => detail !== value && page.run("change", { assignedAgentId: detail || null })}
  ></choice-menu>`;
}

/** @param {any} item */
function clockOf(item) {
  const clock = item.snoozedUntil ? null : urgentClock(item, Date.now());
  if (!clock) return nothing;
  return html`<span class="clock" data-level=${clock.level} title=${clock.title}><span aria-hidden="true">${clock.text}</span><span class="visually-hidden">${clock.title}</span></span>`;
}

/** @param {import("../pages/case.js").CasePage} page */
function actions(page) {
  const item = page.detail;
  const isWritable = can("cases:write");
  const items = [
    ...(isWritable && item.status !== "closed"
      ? [
          { value: "snooze", text: t("case.snooze"), detail: "h" },
          { value: "merge", text: t("case.merge") },
          { value: "split", text: t("case.split") },
        ]
      : []),
    ...(isWritable && item.assignedAgentId === agent() ? [{ value: "release", text: t("case.release") }] : []),
    ...(can("audit:read") ? [{ value: "audit", text: t("aside.audit") }] : []),
  ];
  if (!items.length || me.role === "customer") return nothing;
  return html`<choice-menu
    class="of-actions"
    .name=${t("case.actions")}
    .label=${html`<span aria-hidden="true">⋯</span>`}
    .items=${items}
    @choose=${(/** @type {CustomEvent<string>} */ { detail }) => page.run("act", detail)}
  ></choice-menu>`;
}

/**
 * Say in one line which sources have a problem; nothing while all is well. What a day lacks is not read as a day without events.
 * @param {Record<string, {status: string, ageSeconds: number | null, reason: string | null}>} sources
 * @param {{busy: boolean, refresh: () => void}} shown
 */
export function sourceProblems(sources, { busy, refresh }) {
  const found = Object.entries(sources).filter(([, { status, reason }]) => status === "stale" || status === "unavailable" || (status === "off" && reason));
  if (!found.length) return nothing;
  const canAsk = can("timeline:refresh") && found.some(([, { status }]) => status !== "off");
  return html`<div class="problems" role="note" aria-label=${t("sources.title")}>
    <p>
      ${found.map(
        ([name, { status, ageSeconds, reason }]) =>
          html`<span data-source=${name} data-status=${status}
            >${t(`sources.${kindOf(status, text(reason))}`, { source: word("source", name), time: duration(ageSeconds ?? 0), reason: shorten(text(reason)) })}</span
          > `,
      )}
    </p>
    ${canAsk ? html`<button aria-disabled=${busy} @click=${() => busy || refresh()}>${busy ? t("sources.refreshing") : t("sources.refresh")}</button>` : nothing}
  </div>`;
}

/** Return which sentence says what a source lacks. @param {string} status @param {string} reason @returns {"stale" | "stale_off" | "unavailable" | "off"} */
function kindOf(status, reason) {
  return status === "stale" && SWITCHED_OFF.test(reason) ? "stale_off" : /** @type {"stale" | "unavailable" | "off"} */ (status);
}

/** Return the reasons of the service in the language of the page. @param {string} reason */
function shorten(reason) {
  const [, day, time, why] = SWITCHED_OFF.exec(reason) ?? [];
  const until = new Date(`${day ?? new Date().toISOString().slice(0, 10)}T${time}Z`);
  const reasons = time ? [t("sources.until", { time: day ? dateAndTime(until) : clock(until) })] : reason.split("; ").map(reasonOf);
  const joined = reasons.join("; ") + (why ? `: ${why}` : "");
  return joined.length > LONGEST_REASON ? `${joined.slice(0, LONGEST_REASON - 1)}…` : joined;
}

/** @param {string} reason one of the service */
function reasonOf(reason) {
  const [, status] = /^status (\d{3})$/.exec(reason) ?? [];
  return status ? t("sources.http_status", { status }) : word("source_reason", reason);
}
