/** The clocks of service levels: the most urgent one of a row, and all of a case. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { dateAndTime, duration, t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";

const SOON = 2 * 60 * 60; // seconds before the due time from which a clock is at risk, as in the view of cases at risk

/** @typedef {{dueAt: string | null, state: "running" | "paused" | "met" | "breached", remaining: string}} Clock */

/**
 * Show the clock of a case that something still waits for and that is due first, as a short mark.
 * @param {any} item a case of a list
 * @param {number} now milliseconds
 */
export function slaMark(item, now) {
  const [first] = Object.entries(/** @type {Record<string, Clock>} */ (item.sla ?? {}))
    .filter(([target, clock]) => clock.dueAt && isPending(item, target, clock))
    .sort(([, one], [, other]) => Date.parse(one.dueAt ?? "") - Date.parse(other.dueAt ?? ""));
  return first ? mark(first[0], first[1], now, { isShort: true }) : nothing;
}

/**
 * Show every clock of a case with its state.
 * @param {Record<string, Clock> | null} sla
 * @param {number} now milliseconds
 */
export function slaClocks(sla, now) {
  return Object.entries(sla ?? {}).map(([target, clock]) => mark(target, clock, now));
}

/**
 * @param {string} target
 * @param {Clock} clock
 * @param {number} now
 * @param {{isShort?: boolean}} [options] a short mark shows the time only; what is due is its tooltip, and read to those who listen
 */
function mark(target, { dueAt, state, remaining }, now, { isShort = false } = {}) {
  const left = dueAt ? (Date.parse(dueAt) - now) / 1000 : Infinity;
  const shown = state === "running" ? (left < 0 ? "breached" : left < SOON ? "risk" : "ok") : state;
  const name = word("sla_target", target);
  const time = duration(Math.abs(left));
  const texts = {
    ok: () => t("sla.left", { name, time }),
    risk: () => t("sla.left", { name, time }),
    breached: () => t("sla.late", { name, time }),
    met: () => t("sla.met", { name }),
    paused: () => t("sla.paused", { name, time: duration(secondsOf(remaining)) }),
  };
  const text = texts[shown]();
  const due = dueAt ? t("sla.due", { time: dateAndTime(dueAt) }) : nothing;
  if (!isShort) return html`<span class="sla" data-state=${shown} title=${due}>${text}</span>`;
  const short = shown === "breached" ? t("sla.short_late", { time }) : t("sla.short_left", { time });
  return html`<span class="sla" data-state=${shown} title="${name} ${due}"
    ><span aria-hidden="true">${short}</span><span class="visually-hidden">${text}</span></span
  >`;
}

/**
 * Whether something still waits for a clock. A breached one stays breached, also after a late answer.
 * @param {any} item
 * @param {string} target
 * @param {Clock} clock
 */
function isPending(item, target, { state }) {
  if (state !== "breached") return state === "running";
  if (target === "resolution") return item.status === "open" || item.status === "pending";
  return Boolean(item.waitingSince) && !(target === "firstResponse" && item.sla.nextResponse);
}

/** Return the seconds of a duration of ISO 8601 in hours, minutes and seconds. @param {string} text */
function secondsOf(text) {
  const [, hours = 0, minutes = 0, seconds = 0] = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?$/.exec(text) ?? [];
  return 3600 * Number(hours) + 60 * Number(minutes) + Number(seconds);
}
