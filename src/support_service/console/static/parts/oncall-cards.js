/** The parts of on-call: those that fail, full width; those that work, in one line each. Then the overrides in effect. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { clockWithSeconds, dateAndTime, duration, number, percent, seconds, since, size, t, word } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html } from "../lib/page.js";
import { overrideName, overridesOf, untilTime } from "./oncall-verdict.js";

/** @typedef {import("../pages/oncall.js").OnCallPage} Page */
/** @typedef {[import("../lib/i18n.js").TextName, unknown]} Pair a label, and its value or null */
/**
 * A part: `figures` are shown by their labels, the first ones also in a line; `chart` is the figure that is drawn.
 * @typedef {{name: string, title: string, found: any, problem: any, isOff?: boolean, state: string, figures: Pair[], controls?: unknown,
 *   chart?: {figure: string, label: import("../lib/i18n.js").TextName, format: (value: number) => string}, source?: string}} Part
 */

const IN_LINE = 3; // figures of a part that works

/** Return the figures of a state that charts show. @param {any} status @returns {Record<string, number | null>} */
export function figures(status) {
  const bySource = status.sources.items.map((/** @type {any} */ each) => [`errors:${each.service}`, each.errorShare]);
  return {
    ...Object.fromEntries(bySource),
    database: status.database.answerSeconds,
    backlog: status.backlog.bytes,
    outbox: status.outbox.oldestAgeSeconds,
    stream: status.stream.waiting,
    deadLetters: status.deadLetters.count,
    webhooks: status.webhooks.pending,
    auditSealer: status.auditSealer.unsealedAgeSeconds,
    eventLoop: status.eventLoop.p95Seconds,
  };
}

/**
 * Show all parts, those that fail first.
 * @param {Page} page
 * @param {Map<string, any>} failing the problems of parts and sources, by name
 */
export function parts(page, failing) {
  const all = [...page.status.sources.items.map((/** @type {any} */ item) => sourcePart(page, item, failing)), ...ownParts(page, failing)];
  const broken = all.filter((part) => part.problem);
  return html`
    ${broken.map((part) => card(page, part))}
    <section class="oncall-parts" aria-labelledby="parts-title">
      <h2 id="parts-title">${t("oncall.working")}</h2>
      <ul>
        ${all.filter((part) => !part.problem).map((part) => row(part))}
      </ul>
    </section>
  `;
}

/** @param {Page} page @param {any} item @param {Map<string, any>} failing @returns {Part} */
function sourcePart(page, item, failing) {
  const { service, configured, override, breaker, calls, errorShare, p95Seconds, lastAnswerAt } = item;
  return {
    name: service,
    source: service,
    title: word("source", service),
    found: page.status.sources,
    problem: failing.get(service),
    isOff: !configured || Boolean(override),
    state: !configured ? t("oncall.not_configured") : word("breaker", override ? "not_called" : breaker),
    figures: configured
      ? [
          ["oncall.errors", given(errorShare, percent)],
          ["oncall.calls", number(calls)],
          ["oncall.p95", given(p95Seconds, seconds)],
          ["oncall.last_answer", given(lastAnswerAt, (at) => html`<time datetime=${at} title=${dateAndTime(at)}>${t("oncall.ago", { time: since(at) })}</time>`)],
        ]
      : [],
    chart: { figure: `errors:${service}`, label: "oncall.errors", format: percent },
    controls: configured && !override && can("overrides:write") ? setButton(page, service, t("oncall.switch_off")) : nothing,
  };
}

/** @param {Page} page @param {Map<string, any>} failing @returns {Part[]} */
function ownParts(page, failing) {
  const { status } = page;
  const { backlog, outbox, stream, deadLetters, webhooks, auditSealer, eventLoop, database, cache } = status;
  /** @type {Record<string, {figures: Pair[], chart?: Part["chart"], controls?: unknown}>} */
  const known = {
    database: {
      figures: [["oncall.answer_time", given(database.answerSeconds, seconds)]],
      chart: { figure: "database", label: "oncall.answer_time", format: seconds },
    },
    cache: {
      figures: [["oncall.ttl", duration(cache.ttlSeconds)], ["oncall.ttl_default", duration(cache.defaultTtlSeconds)]],
      controls: !cache.override && can("overrides:write") ? setButton(page, "ttl", t("oncall.keep_longer")) : nothing,
    },
    outbox: {
      figures: [
        ["oncall.waiting", given(outbox.events, number)],
        ["oncall.oldest", outbox.events === 0 ? t("oncall.none") : age(outbox)],
        ["oncall.publishes", outbox.leader ? t("oncall.yes") : t("oncall.other_replica")],
      ],
      chart: { figure: "outbox", label: "oncall.oldest", format: duration },
    },
    stream: {
      figures: [["oncall.waiting", given(stream.waiting, number)]],
      chart: { figure: "stream", label: "oncall.waiting", format: number },
    },
    deadLetters: {
      figures: [["oncall.count", given(deadLetters.count, number)]],
      chart: { figure: "deadLetters", label: "oncall.count", format: number },
    },
    webhooks: {
      figures: [
        ["oncall.tried_again", given(webhooks.pending, number)],
        ["oncall.endpoints", webhooks.endpoints.join(", ") || t("oncall.none")],
      ],
      chart: { figure: "webhooks", label: "oncall.tried_again", format: number },
    },
    backlog: {
      figures: [
        ["oncall.bytes", given(backlog.bytes, size)],
        ["oncall.disk_free", given(backlog.diskFreeBytes, size)],
        ["oncall.full_in", backlog.diskFreeBytes === null ? null : fullIn(backlog.fullInSeconds)],
        ["oncall.files", given(backlog.files, number)],
        ["oncall.oldest", age(backlog)],
      ],
      chart: { figure: "backlog", label: "oncall.bytes", format: size },
    },
    auditSealer: {
      figures: [
        ["oncall.entries", given(auditSealer.entries, number)],
        ["oncall.oldest_unsealed", auditSealer.unsealedAgeSeconds === 0 ? t("oncall.none") : given(auditSealer.unsealedAgeSeconds, duration)],
        ["oncall.last_sealed", given(auditSealer.lastSealedAt, dateAndTime)],
      ],
      chart: { figure: "auditSealer", label: "oncall.oldest_unsealed", format: duration },
    },
    eventLoop: {
      figures: [
        ["oncall.p95_minute", given(eventLoop.p95Seconds, seconds)],
        ["oncall.max_minute", given(eventLoop.maxSeconds, seconds)],
        ["oncall.lag", given(eventLoop.lagSeconds, seconds)],
      ],
      chart: { figure: "eventLoop", label: "oncall.p95_minute", format: seconds },
    },
    probe: { figures: [] },
  };
  return Object.entries(known).map(([name, part]) => {
    const found = status[name];
    return { name, title: word("card", name), found, problem: failing.get(name), state: word("card_status", found.status), ...part };
  });
}

/**
 * Show a part that fails: what is wrong, since when, its figures and its chart.
 * @param {Page} page
 * @param {Part} part
 */
function card(page, part) {
  const { name, title, found, state, source, problem } = part;
  return html`<section class="oncall-card" data-part=${name} data-status=${source ? "unavailable" : found.status} data-failing="yes" aria-labelledby="card-${name}">
    <header>
      <h2 id="card-${name}">${title}</h2>
      <span class="card-status">${state}</span>
      <span class="muted scope">${word("card_scope", found.scope)}</span>
      <span class="muted">${t("verdict.since", { time: clockWithSeconds(problem.since) })}</span>
      ${links(part)}
    </header>
    ${found.error ? html`<p lang="en" class="error">${found.error}</p>` : nothing}
    ${found.status === "stale" ? html`<p class="warning">${t("oncall.card_old", { time: clockWithSeconds(found.asOf) })}</p>` : nothing}
    <div class="card-body">
      <dl class="pairs">${part.figures.map(([label, value]) => html`<dt>${t(label)}</dt><dd>${shownValue(value)}</dd>`)}</dl>
      ${part.chart ? page.samples.chart(part.chart.figure, t(part.chart.label), part.chart.format, limitOf(problem)) : nothing}
    </div>
    ${part.controls}
  </section>`;
}

/** Return the threshold of what the chart of a part shows. Of a source, that is the share of its calls. @param {any} problem @returns {number | undefined} */
function limitOf({ limit, alert, part }) {
  return part === "sources" && alert !== "SupportTimelineSourceDown" ? undefined : (limit ?? undefined);
}

/** Show a part that works, in one line. @param {Part} part */
function row(part) {
  const { name, title, found, state, source } = part;
  return html`<li class="oncall-row" data-part=${name} data-status=${part.isOff ? "off" : source ? "ok" : found.status} data-failing="no">
    <strong>${title}</strong>
    <span class="card-status">${state}</span>
    <span class="line muted">${part.figures.slice(0, IN_LINE).map(([label, value]) => html`<span>${t(label)} <b>${shownValue(value)}</b></span>`)}</span>
    ${links(part, part.controls)}
  </li>`;
}

/** @param {unknown} value */
function shownValue(value) {
  return value ?? html`<span class="muted">${t("oncall.unknown")}</span>`;
}

/** @param {Part} part @param {unknown} [controls] before the links */
function links({ found, title }, controls = nothing) {
  return html`<span class="links">
    ${controls}
    ${found.runbook ? html`<a href=${found.runbook} target="_blank" rel="noreferrer">${t("oncall.runbook")}<span class="visually-hidden">: ${title}</span></a>` : nothing}
    ${found.panel ? html`<a href=${found.panel} target="_blank" rel="noreferrer">Grafana<span class="visually-hidden">: ${title}</span></a>` : nothing}
  </span>`;
}

/**
 * @param {Page} page
 * @param {string} name of the override
 * @param {string} text
 */
function setButton(page, name, text) {
  return html`<button class="plain" ?disabled=${page.busy} @click=${() => page.edit(name, null)}>${text}<span class="visually-hidden">: ${overrideName(name)}</span></button>`;
}

/** Show the overrides in effect: who, why, until when, and what may be done. @param {Page} page */
export function overrideStrip(page) {
  const found = overridesOf(page.status);
  return html`<section class="overrides" aria-labelledby="overrides-title" data-set=${found.length ? "yes" : "no"}>
    <h2 id="overrides-title">${t("oncall.overrides")}</h2>
    ${found.length ? nothing : html`<p class="muted">${t("oncall.no_overrides")}</p>`}
    <ul>
      ${found.map((override) => {
        const which = html`<span class="visually-hidden">: ${overrideName(override.name)}</span>`;
        const who = page.whoSet(override);
        return html`<li class="override" data-override=${override.name}>
          <strong>${override.name === "ttl" ? t("oncall.kept_for", { time: seconds(override.value) }) : t("verdict.off", { name: overrideName(override.name) })}</strong>
          <time datetime=${override.until} title=${dateAndTime(override.until)}>${untilTime(override.until)}</time>
          ${who ? html`<span>${t("verdict.set_by", { who })}</span>` : nothing} ${override.reason ? html`<bdi class="muted">${override.reason}</bdi>` : nothing}
          ${can("overrides:write")
            ? html`<span class="links">
                <button ?disabled=${page.busy} @click=${() => page.edit(override.name, override)}>${t("oncall.extend")}${which}</button>
                <button ?disabled=${page.busy} @click=${() => page.clear(override)}>${t("oncall.clear")}${which}</button>
              </span>`
            : nothing}
        </li>`;
      })}
    </ul>
  </section>`;
}

/**
 * Return a value in words, or null if it is not known.
 * @template Value
 * @param {Value | null} value
 * @param {(value: Value) => unknown} format
 */
function given(value, format) {
  return value === null ? null : format(value);
}

/** @param {{oldestAgeSeconds: number | null, files?: number | null}} found */
function age(found) {
  if (found.oldestAgeSeconds === null) return found.files === 0 ? t("oncall.none") : null;
  return duration(found.oldestAgeSeconds);
}

/** @param {number | null} left seconds */
function fullIn(left) {
  return left === null ? t("oncall.does_not_fill") : html`<strong class="warning">${duration(left)}</strong>`;
}
