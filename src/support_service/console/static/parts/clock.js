/** The one time that a case shows: its most urgent clock, or else how long its customer waits. */

import { dateAndTime, duration, since, t, word } from "../lib/i18n.js";

const SOON_HOURS = 2; // before the due time, from which a clock is at risk
const SOON = SOON_HOURS * 60 * 60; // seconds
export const AT_RISK = `PT${SOON_HOURS}H`; // the same as a filter of the API

/**
 * @typedef {{dueAt: string | null, state: "running" | "paused" | "met" | "breached", waiting: boolean, remaining: string}} Clock
 * @typedef {"none" | "soon" | "late"} Level
 */

/**
 * Return how urgent a due time is, and the seconds until it.
 * @param {string | null} dueAt
 * @param {number} now milliseconds
 * @returns {{level: Level, seconds: number}}
 */
export function urgency(dueAt, now) {
  const seconds = dueAt ? (Date.parse(dueAt) - now) / 1000 : Infinity;
  return { seconds, level: seconds < 0 ? "late" : seconds < SOON ? "soon" : "none" };
}

/**
 * Return the running clock of a case that is due first, in words. A breached clock runs until it is answered.
 * Without a clock, it is the time for which the customer waits. Null if nobody waits.
 * @param {any} item a case
 * @param {number} now milliseconds
 * @returns {{text: string, level: Level, title: string} | null}
 */
export function urgentClock(item, now) {
  const [first] = Object.entries(/** @type {Record<string, Clock>} */ (item.sla ?? {}))
    .flatMap(([target, { waiting, dueAt }]) => (waiting && dueAt ? [{ target, dueAt }] : []))
    .sort((one, other) => Date.parse(one.dueAt) - Date.parse(other.dueAt));
  if (!first) {
    if (!item.waitingSince) return null;
    const time = since(item.waitingSince, now);
    return { text: time, level: "none", title: t("clock.waiting", { time, at: dateAndTime(item.waitingSince) }) };
  }
  const { seconds, level } = urgency(first.dueAt, now);
  const time = duration(Math.abs(seconds));
  const name = word("sla_target", first.target);
  const sentence = level === "late" ? t("sla.overdue", { name, time }) : t("sla.left", { name, time });
  const text = level === "late" ? t("clock.late", { time }) : time;
  return { text, level, title: `${sentence}, ${t("sla.due", { time: dateAndTime(first.dueAt) })}` };
}
