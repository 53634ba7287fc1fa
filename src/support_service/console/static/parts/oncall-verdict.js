/** What is wrong with the service, in words, as the verdict of `GET /support/oncall` says: the service judges, and the page shows. */

import { clock, duration, language, number, percent, seconds, size, t, word } from "../lib/i18n.js";

/** @typedef {{text: string, problem: any, part: string, source?: string}} Finding `part` is a member of the answer, or a part without a card */
/** @typedef {{level: "good" | "degraded" | "bad", problems: Finding[], deliberate: string[]}} Verdict */

const FORMATS = { share: percent, seconds, bytes: size, number: (/** @type {number} */ value) => number(value) };

/** What an alert says with its figure. Others are named by their title. @type {Record<string, (figure: number) => string>} */
const SENTENCES = {
  SupportEventsDeadLettered: (n) => t("verdict.dead_letters", { n }),
  SupportOutboxStalled: (age) => t("verdict.outbox", { time: duration(age) }),
  SupportEventsConsumerStalled: (n) => t("verdict.stream", { n: number(n) }),
  SupportAuditUnsealed: (age) => t("verdict.audit", { time: duration(age) }),
  SupportAttachmentDiskFull: (free) => t("verdict.disk_free", { size: size(free) }),
  SupportAttachmentBacklogHigh: (bytes) => t("verdict.backlog", { size: size(bytes) }),
};

/**
 * Return what the state says, worst first.
 * @param {any} status
 * @param {(override: any) => string | undefined} whoSet returns who has set an override
 * @returns {Verdict}
 */
export function verdict(status, whoSet) {
  const { level, problems } = status.verdict;
  return {
    level,
    problems: problems.map((/** @type {any} */ problem) => ({ problem, part: problem.part, source: problem.source ?? undefined, text: sentence(problem, status) })),
    deliberate: overridesOf(status).map((override) => inEffect(override, whoSet(override))),
  };
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

/** Return a figure with its unit; empty if it says nothing. @param {unknown} value @param {string | null} unit */
export function figureText(value, unit) {
  return typeof value === "number" && unit ? FORMATS[/** @type {keyof typeof FORMATS} */ (unit)](value) : "";
}

/** @param {any} override @param {string | undefined} who */
function inEffect({ name, value, until }, who) {
  const what = name === "ttl" ? t("oncall.kept_for", { time: seconds(value) }) : t("verdict.off", { name: word("source", name) });
  return `${what} ${untilTime(until)}${who ? `, ${t("verdict.set_by", { who })}` : ""}.`;
}

/** Return what is wrong, since when, and for whom. @param {any} problem @param {any} status */
function sentence(problem, status) {
  const replicas = problem.replicas ? ` ${t("verdict.of_replicas", { n: problem.replicas.length, replicas: problem.replicas.join(", ") })}` : "";
  return `${what(problem, status)} ${capital(t("verdict.since", { time: clock(problem.since) }))}${replicas}.`;
}

/** @param {any} problem @param {any} status */
function what(problem, status) {
  const { alert, source, figure, limit, unit, part, labels } = problem;
  const item = source && status.sources.items.find((/** @type {any} */ each) => each.service === source);
  if (part === "sources" && item?.errorShare) return ofSource(item);
  if (part === "database" && status.database.status === "unavailable") return `${t("oncall.database_down")}.`;
  if (SENTENCES[alert] && typeof figure === "number") return SENTENCES[alert](figure);
  const title = problem.summary[language];
  const named = Object.values(labels).map((value) => word("source", value)).join(", ");
  const shown = figureText(figure, unit);
  const limited = shown && figureText(limit, unit) ? ` (${t("verdict.limit", { limit: figureText(limit, unit) })})` : "";
  return `${capital(title)}${named ? ` (${named})` : ""}${shown ? `: ${shown}${limited}` : ""}.`;
}

/** @param {string} words */
function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** @param {any} source */
function ofSource({ service, breaker, lastAnswerAt, errorShare, calls }) {
  const name = word("source", service);
  const share = { share: percent(errorShare), n: calls };
  if (breaker === "closed" && errorShare < 1) return `${t("verdict.share_fails", { name, ...share })}.`;
  const down = lastAnswerAt ? t("verdict.no_answer_since", { name, time: clock(lastAnswerAt) }) : t("verdict.no_answer", { name });
  return `${down}; ${t("verdict.calls_fail", share)}.${breaker === "open" ? ` ${t("verdict.rejected")}` : ""}`;
}
