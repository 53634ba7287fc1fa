/** The times that a snooze is offered for. */

/** @typedef {import("../lib/i18n.js").TextName} TextName */

const LATER_HOURS = 3;
const MORNING = 9; // o'clock
const WEEK = 7; // days

/** Return the times with their names, each time once. @param {Date} now @returns {{name: TextName, at: Date}[]} */
export function snoozeTimes(now) {
  const morning = (/** @type {number} */ days) => new Date(now.getFullYear(), now.getMonth(), now.getDate() + days, MORNING);
  const later = new Date(now.getTime() + LATER_HOURS * 3_600_000);
  const toMonday = (8 - now.getDay()) % WEEK;
  return [
    ...(later.getDate() === now.getDate() ? [{ name: /** @type {const} */ ("snooze.today"), at: later }] : []),
    { name: "snooze.tomorrow", at: morning(1) },
    ...(toMonday > 1 ? [{ name: /** @type {const} */ ("snooze.monday"), at: morning(toMonday) }] : []),
    { name: "snooze.week", at: morning(WEEK) },
  ];
}
