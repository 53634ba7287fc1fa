/** What is wrong with the service at present, in words, from what `GET /support/oncall` answers. */

import { clock, clockWithSeconds, duration, number, percent, seconds, size, t, text, word } from "../lib/i18n.js";

/** From when a figure is a problem: the thresholds of the alerts. */
export const LIMITS = {
  errorShare: 0.5, // of the calls of a source
  failedCalls: 5,
  backlogBytes: 15 * 2 ** 30,
  fullInSeconds: 4 * 3600,
  diskFreeBytes: 2 ** 30,
  outboxAgeSeconds: 120,
  streamWaiting: 5000,
  deadLetters: 0,
  auditAgeSeconds: 300,
  loopSeconds: 0.1,
};

/**
 * @typedef {{part: string, source?: string, text: string}} Finding `part` is the member of the answer, `source` an upstream service
 * @typedef {{level: "good" | "degraded" | "bad", problems: Finding[], deliberate: Finding[]}} Verdict
 */

/**
 * Return what the state says, worst first.
 * @param {any} status
 * @param {(override: any) => string | undefined} whoSet returns who has set an override
 * @returns {Verdict}
 */
export function verdict(status, whoSet) {
  const problems = [...failedParts(status), ...failedSources(status), ...exceeded(status)];
  const deliberate = overridesOf(status).map((override) => ({ part: override.name === "ttl" ? "cache" : "sources", source: override.name, text: inEffect(override, whoSet(override)) }));
  return { level: problems.length ? "bad" : deliberate.length ? "degraded" : "good", problems, deliberate };
}

/** Return all overrides in effect. @param {any} status @returns {any[]} */
export function overridesOf({ sources, cache }) {
  return [...sources.items.map((/** @type {any} */ each) => each.override), cache.override].filter(Boolean);
}

/** Return what an override is called. @param {string} name */
export function overrideName(name) {
  return name === "ttl" ? t("oncall.ttl_name") : word("source", name);
}

/** Return an end in the time of the browser, and how long it is until then. @param {string} until */
export function untilTime(until) {
  return t("verdict.until", { time: clock(until), left: duration((Date.parse(until) - Date.now()) / 1000) });
}

/** @param {any} override @param {string | undefined} who */
function inEffect({ name, value, until }, who) {
  const what = name === "ttl" ? t("oncall.kept_for", { time: seconds(value) }) : t("verdict.off", { name: word("source", name) });
  return `${what} ${untilTime(until)}${who ? `, ${t("verdict.set_by", { who })}` : ""}.`;
}

/** The parts that do not answer, and those whose figures are old. @param {any} status @returns {Finding[]} */
function failedParts(status) {
  return Object.entries(status).flatMap(([part, found]) => {
    if (part === "sources") return []; // each source is a finding of its own
    if (found?.status === "unavailable") return [{ part, text: part === "database" ? t("oncall.database_down") + "." : `${word("card", part)}: ${text(found.error)}` }];
    if (found?.status === "stale") return [{ part, text: t("verdict.stale", { name: word("card", part), time: clockWithSeconds(found.asOf) }) }];
    return [];
  });
}

/** Whether calls of a source fail as often as its alert allows, or are rejected. @param {any} source */
export function isFailing({ configured, override, breaker, calls, errorShare }) {
  if (!configured || override) return false;
  return breaker !== "closed" || (figure(errorShare) >= LIMITS.errorShare && figure(errorShare) * figure(calls) >= LIMITS.failedCalls);
}

/** Return a number, or NaN for any other value, which is beyond no limit. @param {unknown} value */
function figure(value) {
  return typeof value === "number" ? value : NaN;
}

/** @param {any} status @returns {Finding[]} */
function failedSources({ sources }) {
  return sources.items.filter(isFailing).map((/** @type {any} */ item) => {
    const { service, breaker, lastAnswerAt, errorShare, calls } = item;
    const name = word("source", service);
    const down = lastAnswerAt ? t("verdict.no_answer_since", { name, time: clock(lastAnswerAt) }) : t("verdict.no_answer", { name });
    const rejected = breaker === "open" ? ` ${t("verdict.rejected")}` : "";
    return { part: "sources", source: service, text: `${down}; ${t("verdict.calls_fail", { share: percent(errorShare ?? 0), n: calls })}.${rejected}` };
  });
}

/** The figures above their thresholds. A lag of the event loop is a problem after 15 minutes only, which the state does not tell. @param {any} status @returns {Finding[]} */
function exceeded({ backlog, outbox, stream, deadLetters, auditSealer }) {
  const isFilling = figure(backlog.fullInSeconds) < LIMITS.fullInSeconds;
  const isFull = figure(backlog.diskFreeBytes) < LIMITS.diskFreeBytes;
  /** @type {[string, boolean, () => string][]} */
  const rules = [
    ["backlog", isFull, () => t("verdict.disk_free", { size: size(backlog.diskFreeBytes) })],
    ["backlog", isFilling && !isFull, () => t("verdict.disk_full_in", { time: duration(backlog.fullInSeconds) })],
    ["backlog", figure(backlog.bytes) > LIMITS.backlogBytes, () => t("verdict.backlog", { size: size(backlog.bytes) })],
    ["outbox", figure(outbox.oldestAgeSeconds) > LIMITS.outboxAgeSeconds, () => t("verdict.outbox", { time: duration(outbox.oldestAgeSeconds) })],
    ["stream", figure(stream.waiting) > LIMITS.streamWaiting, () => t("verdict.stream", { n: number(stream.waiting) })],
    ["deadLetters", figure(deadLetters.count) > LIMITS.deadLetters, () => t("verdict.dead_letters", { n: deadLetters.count })],
    ["auditSealer", figure(auditSealer.unsealedAgeSeconds) > LIMITS.auditAgeSeconds, () => t("verdict.audit", { time: duration(auditSealer.unsealedAgeSeconds) })],
  ];
  return rules.flatMap(([part, isExceeded, text]) => (isExceeded ? [{ part, text: text() }] : []));
}
