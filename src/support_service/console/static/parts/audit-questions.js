/** What is asked most of the audit log, each with one press: on its page, and in the palette everywhere. */

import { query } from "../lib/api.js";

/** @returns {[import("../lib/i18n.js").TextName, string][]} the questions, and the filters that answer them */
export function auditQuestions() {
  const from = new Date(new Date().setHours(0, 0, 0, 0)).toISOString();
  return [
    ["audit.closed_today", query({ action: "case.closed", from })],
    ["audit.changed_today", query({ action: "case.changed", from })],
    ["audit.overrides_today", query({ action: "override.set", from })],
    ["audit.all_today", query({ from })],
  ];
}
