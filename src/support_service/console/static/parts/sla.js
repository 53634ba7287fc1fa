/** All clocks of service levels of a case. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { dateAndTime, duration, t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { urgency } from "./clock.js";

/** @typedef {import("./clock.js").Clock} Clock */

const STATES = /** @type {const} */ ({ none: "ok", soon: "risk", late: "overdue" }); // of a clock that something waits for

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
 */
function mark(target, { dueAt, state, waiting, remaining }, now) {
  const { seconds, level } = urgency(dueAt, now);
  const shown = waiting ? STATES[level] : state;
  const name = word("sla_target", target);
  const time = duration(Math.abs(seconds));
  const leftText = () => t("sla.left", { name, time });
  const texts = {
    ok: leftText,
    risk: leftText,
    running: leftText,
    overdue: () => t("sla.overdue", { name, time }),
    breached: () => t("sla.breached", { name }),
    met: () => t("sla.met", { name }),
    paused: () => t("sla.paused", { name, time: duration(secondsOf(remaining)) }),
  };
  const text = texts[shown]();
  const due = dueAt ? t("sla.due", { time: dateAndTime(dueAt) }) : nothing;
  return html`<span class="sla" data-state=${shown} title=${due}>${text}</span>`;
}

/** Return the seconds of a duration of ISO 8601 in hours, minutes and seconds. @param {string} text */
function secondsOf(text) {
  const [, hours = 0, minutes = 0, seconds = 0] = /^PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?$/.exec(text) ?? [];
  return 3600 * Number(hours) + 60 * Number(minutes) + Number(seconds);
}
