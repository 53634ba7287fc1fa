/** The clocks of a case's service levels. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { dateAndTime, duration } from "../lib/format.js";
import { t } from "../lib/i18n.js";

const SOON = 30 * 60; // seconds before a time at which it counts as at risk

/**
 * Return the clock that ends next, as a short mark.
 * @param {any} sla
 * @param {number} now milliseconds
 */
export function slaMark(sla, now) {
  const due = sla?.dueAt;
  if (!due) return nothing;
  const left = (new Date(due).getTime() - now) / 1000;
  const state = left < 0 ? "breached" : left < SOON ? "risk" : "ok";
  const text = left < 0 ? t("sla.late", { time: duration(-left) }) : t("sla.left", { time: duration(left) });
  return html`<span class="sla" data-state=${state} title=${dateAndTime(due)}>${text}</span>`;
}
