/** The head of a case: what it is about, who has it, what can be done with it, and the state of its sources. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { duration, since, t, text, word } from "../lib/i18n.js";
import { agent, can } from "../lib/api.js";
import { html, queueLeft } from "../lib/page.js";
import { slaClocks } from "./sla.js";

/** The statuses that a case can get from each status, as the API allows them. */
const NEXT = { open: ["pending", "resolved", "closed"], pending: ["open", "resolved", "closed"], resolved: ["open", "pending", "closed"], closed: ["open"] };
const PRIORITIES = ["low", "normal", "high", "urgent"];

/**
 * @param {any} item
 * @param {{change: (changes: object) => void, claim: () => void, busy: boolean, viewers: {name: string, state: string}[]}} actions
 */
export function caseHeader(item, { change, claim, busy, viewers }) {
  const writable = can("cases:write");
  const statuses = [item.status, ...NEXT[/** @type {keyof typeof NEXT} */ (item.status)]];
  const isMine = item.assignedAgentId === agent();
  return html`
    <header class="case-head">
      <div class="title">
        <a class="back" href=${queueLeft.address} aria-label=${t("case.back")}>‹</a>
        <h1 dir="auto">${item.subject}</h1>
      </div>
      <div class="facts">
        ${writable ? choice("status", item.status, statuses, change, busy) : html`<span class="pill" data-status=${item.status}>${word("status", item.status)}</span>`}
        ${writable ? choice("priority", item.priority, PRIORITIES, change, busy) : html`<span>${word("priority", item.priority)}</span>`}
        <span class="assignee">
          ${item.assignedAgentId ? html`<span class="muted">${t("case.assigned")}</span> <bdi>${item.assignedAgentId}</bdi>` : html`<span class="muted">${t("case.unassigned")}</span>`}
          ${item.team ? html`<bdi class="tag">${item.team}</bdi>` : nothing}
        </span>
        ${writable && !isMine
          ? html`<button class=${item.assignedAgentId ? "" : "primary"} ?disabled=${busy} @click=${claim}>${t("case.claim")}</button>`
          : nothing}
        ${writable && isMine ? html`<button class="plain" ?disabled=${busy} @click=${() => change({ assignedAgentId: null })}>${t("case.release")}</button>` : nothing}
        ${writable && (item.status === "open" || item.status === "pending")
          ? html`<button ?disabled=${busy} @click=${() => change({ status: "resolved" })}>${t("case.resolve")}</button>`
          : nothing}
        ${item.waitingSince ? html`<span class="waiting">${t("case.waiting", { time: since(item.waitingSince) })}</span>` : nothing}
        ${slaClocks(item.sla, Date.now())}
        ${viewers.length ? html`<span class="viewers">${t("queue.viewed_by", { names: viewers.map(({ name }) => name).join(", ") })}</span>` : nothing}
      </div>
    </header>
  `;
}

/**
 * @param {"status" | "priority"} name
 * @param {string} current
 * @param {string[]} values
 * @param {(changes: object) => void} change
 * @param {boolean} busy
 */
function choice(name, current, values, change, busy) {
  return html`<select
    class=${name}
    data-value=${current}
    aria-label=${t(`filter.${name}`)}
    ?disabled=${busy}
    @change=${(/** @type {any} */ event) => change({ [name]: event.target.value })}
  >
    ${values.map((value) => html`<option value=${value} .selected=${value === current}>${word(name, value)}</option>`)}
  </select>`;
}

/**
 * Show one badge per source of the timeline; each opens its reason, its age and a refresh.
 * @param {Record<string, {status: string, ageSeconds: number | null, reason: string | null}>} sources
 * @param {{busy: boolean, refresh: () => void}} shown
 */
export function sourceBadges(sources, { busy, refresh }) {
  return html`
    <div class="sources" role="group" aria-label=${t("sources.title")}>
      ${Object.entries(sources).map(
        ([name, source]) => html`
          <details class="menu source" data-status=${source.status} name="source">
            <summary>${word("source", name)} <b>${source.status}</b>${addition(source)}</summary>
            <div class="panel">
              <p>${word("source_state", source.status)}</p>
              ${source.ageSeconds === null ? nothing : html`<p>${t("sources.age", { time: duration(source.ageSeconds) })}</p>`}
              ${source.reason ? html`<p>${t("sources.reason", { reason: source.reason })}</p>` : nothing}
              ${can("timeline:refresh") && source.status !== "none"
                ? html`<button ?disabled=${busy} @click=${refresh}>${busy ? t("sources.refreshing") : t("sources.refresh")}</button>`
                : nothing}
            </div>
          </details>
        `,
      )}
    </div>
  `;
}

/** @param {{status: string, ageSeconds: number | null, reason: string | null}} source */
function addition({ status, ageSeconds, reason }) {
  if (status === "off") return reason ? ` ${t("sources.by_oncall")}` : nothing;
  const age = status === "stale" && ageSeconds !== null ? ` ${duration(ageSeconds)}` : "";
  const why = reason && (status === "stale" || status === "unavailable") ? ` (${shorten(text(reason))})` : "";
  return age + why;
}

/** @param {string} reason */
function shorten(reason) {
  return reason.length > 32 ? `${reason.slice(0, 31)}…` : reason;
}
