/** For supervisors: who has how many cases, what is at risk, who is away; and what happened in the last days. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { agents, setAway } from "../lib/agents.js";
import { explain, query, request } from "../lib/api.js";
import { Element, go, html } from "../lib/page.js";
import { dateAndTime, duration, number, since, t, word } from "../lib/i18n.js";
import { dayChart, shareBar } from "../parts/charts.js";
import "../parts/choice-menu.js";
import { AT_RISK } from "../parts/clock.js";
import { person } from "../parts/person.js";
import { toast } from "../parts/toast.js";

const INTERVAL = 60_000; // ms between reads of the directory
const PERIODS = [7, 30, 90]; // days
const DAY = 24 * 60 * 60 * 1000; // ms

/** @typedef {import("../lib/agents.js").AgentEntry} AgentEntry */
/** @typedef {import("../lib/i18n.js").TextName} TextName */

/** The columns of people by what they are sorted by, highest first. @type {[string, TextName, (row: any) => number][]} */
const COLUMNS = [
  ["open", "status.open", ({ open }) => open ?? 0],
  ["pending", "status.pending", ({ pending }) => pending ?? 0],
  ["atRisk", "view.due", ({ atRisk }) => atRisk ?? 0],
  ["oldestWait", "team.oldest_wait", ({ oldestWait }) => (oldestWait ? -Date.parse(oldestWait) : -Infinity)],
  ["solved", "team.solved", ({ solved }) => solved],
  ["breaches", "team.breaches", ({ breaches }) => breaches],
];

class TeamPage extends Element {
  /** @type {AgentEntry[] | null} */
  people = null;
  /** The cases that nobody has. @type {{open: number | null, atRisk: number | null}} */
  nobody = { open: null, atRisk: null };
  /** What happened: by day, agent, team and channel. @type {Record<string, any[]> | null} */
  reports = null;
  /** @type {string | null} */
  completeSince = null;
  failure = "";
  sort = "atRisk";
  busy = false;
  /** What of the address is shown. @type {string | null} */
  asked = null;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("team.title")} – ${t("app.name")}`;
    const moved = () => this.isConnected && this.follow();
    this.listen(window, "console:moved", moved);
    this.listen(window, "popstate", moved);
    this.every(INTERVAL, () => document.hidden || this.readPeople());
    this.follow();
  }

  /** What the address asks for. */
  get filters() {
    const given = new URLSearchParams(location.search);
    const days = PERIODS.find((each) => String(each) === given.get("days")) ?? PERIODS[1];
    return { days, team: given.get("team") ?? "", channel: given.get("channel") ?? "" };
  }

  /** The days of the reports, in UTC, as the service counts them. */
  get days() {
    const { days } = this.filters;
    return Array.from({ length: days }, (_, index) => new Date(Date.now() - (days - 1 - index) * DAY).toISOString().slice(0, 10));
  }

  follow() {
    if (location.pathname !== "/console/team") return;
    const asked = query(this.filters);
    if (asked === this.asked) return;
    this.asked = asked;
    this.readPeople();
    this.readReports();
  }

  async readPeople() {
    const { asked } = this;
    const { team } = this.filters;
    const count = async (/** @type {Record<string, string>} */ filters) =>
      (await request(`/support/cases/count?${query({ assignedAgentId: "none", team, ...filters })}`)).data.count;
    try {
      const [people, open, atRisk] = await Promise.all([agents(), count({ status: "open" }), count({ dueWithin: AT_RISK })]);
      if (asked === this.asked) this.set({ people, nobody: { open, atRisk }, failure: "" });
    } catch (failure) {
      if (asked === this.asked) this.set({ failure: explain(failure) });
    }
  }

  async readReports() {
    const { asked, days } = this;
    const { team, channel } = this.filters;
    const [from, to] = [days[0], days[days.length - 1]];
    const by = { day: { team, channel }, agent: { team, channel }, team: { channel }, channel: { team } };
    this.set({ busy: true });
    try {
      const answers = await Promise.all(Object.entries(by).map(([name, filters]) => request(`/support/reports?${query({ from, to, by: name, ...filters })}`)));
      if (asked !== this.asked) return;
      const reports = Object.fromEntries(Object.keys(by).map((name, index) => [name, answers[index].data.items]));
      this.set({ reports, completeSince: answers[0].data.completeSince, failure: "" });
    } catch (failure) {
      if (asked === this.asked) this.set({ failure: explain(failure) });
    }
    if (asked === this.asked) this.set({ busy: false });
  }

  render() {
    return html`
      <main id="main" class="page team-page" aria-busy=${this.busy || (!this.people && !this.failure)}>
        <header class="page-head">
          <h1>${t("team.title")}</h1>
          ${this.choices()}
        </header>
        ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
        ${this.people ? this.table(this.people) : this.failure ? nothing : html`<p role="status">${t("app.loading")}</p>`}
        ${this.reports ? this.report(this.reports) : nothing}
      </main>
    `;
  }

  choices() {
    const { days } = this.filters;
    const named = (/** @type {string} */ name) => (this.reports?.[name] ?? []).flatMap((row) => row[name] ?? []);
    const teams = [...new Set([...named("team"), ...(this.people ?? []).flatMap((each) => each.teams)])].sort();
    const nameOf = (/** @type {string} */ kind, /** @type {string} */ value) => (kind === "channel" ? word("channel", value) : value);
    const menu = (/** @type {"team" | "channel"} */ kind, /** @type {string} */ any, /** @type {string[]} */ values) => {
      const value = this.filters[kind];
      const label = value ? nameOf(kind, value) : any;
      const items = [{ value: "", text: any }, ...values.map((each) => ({ value: each, text: nameOf(kind, each) }))];
      return html`<choice-menu .label=${label} .name=${`${t(`field.${kind}`)}: ${label}`} .items=${items} .value=${value} @choose=${(/** @type {CustomEvent} */ { detail }) => this.move({ [kind]: detail })}></choice-menu>`;
    };
    return html`
      ${menu("team", t("team.any_team"), teams)} ${menu("channel", t("team.any_channel"), named("channel"))}
      <div class="segments" role="group" aria-label=${t("team.period")}>
        ${PERIODS.map((each) => html`<button aria-pressed=${each === days} @click=${() => this.move({ days: String(each) })}>${t("team.days", { n: each })}</button>`)}
      </div>
    `;
  }

  /** @param {Record<string, string>} changes of the filters */
  move(changes) {
    go(`/console/team?${query({ ...this.filters, ...changes })}`, { replace: true });
    this.requestUpdate();
  }

  /** @param {AgentEntry[]} people */
  table(people) {
    const { team } = this.filters;
    const done = new Map((this.reports?.agent ?? []).map((row) => [row.agent, row]));
    const rows = people
      .filter(({ teams }) => !team || teams.includes(team))
      .map((each) => ({ ...each, solved: done.get(each.id)?.solved ?? 0, breaches: breachesOf(done.get(each.id)) }));
    const value = COLUMNS.find(([name]) => name === this.sort)?.[2] ?? (() => 0);
    rows.sort((one, other) => value(other) - value(one) || (other.open ?? 0) - (one.open ?? 0));
    const highest = Math.max(1, this.nobody.open ?? 0, ...rows.map(({ open }) => open ?? 0));
    return html`<section>
      <h2 id="team-people">${t("team.people")}</h2>
      <div class="scroller" tabindex="0" role="region" aria-labelledby="team-people">
        <table class="people">
          <thead>
            <tr>
              <th scope="col">${t("team.person")}</th>
              ${COLUMNS.map(
                ([name, text]) =>
                  html`<th scope="col" class="figure" aria-sort=${name === this.sort ? "descending" : nothing}>
                    <button class="plain" @click=${() => this.set({ sort: name })}>${t(text)}</button>
                  </th>`,
              )}
              <th scope="col">${t("team.state")}</th>
            </tr>
          </thead>
          <tbody>
            <tr data-person="none">
              <th scope="row"><a href="/console/?${query({ view: "unassigned", team })}">${t("view.unassigned")}</a></th>
              <td class="figure">${this.open(this.nobody.open, highest)}</td>
              <td></td>
              <td class="figure">${this.atRisk("none", this.nobody.atRisk)}</td>
              <td colspan="4"></td>
            </tr>
            ${repeat(rows, ({ id }) => id, (row) => this.row(row, highest))}
          </tbody>
        </table>
      </div>
      ${rows.length ? nothing : html`<p class="muted">${t("team.nobody")}</p>`}
    </section>`;
  }

  /**
   * @param {any} row
   * @param {number} highest number of open cases of anybody
   */
  row(row, highest) {
    const state = row.away ? "away" : row.present ? "present" : "absent";
    return html`<tr data-person=${row.id}>
      <th scope="row">
        <a href="/console/?${query({ view: "all", assignedAgentId: row.id, status: "open,pending" })}">${person(row.id, row.displayName)}</a>
        ${row.teams.length ? html`<bdi class="muted">${row.teams.join(", ")}</bdi>` : nothing}
      </th>
      <td class="figure">${this.open(row.open, highest)}</td>
      <td class="figure">${number(row.pending)}</td>
      <td class="figure">${this.atRisk(row.id, row.atRisk)}</td>
      <td class="figure">${row.oldestWait ? html`<time datetime=${row.oldestWait} title=${dateAndTime(row.oldestWait)}>${since(row.oldestWait)}</time>` : html`<span class="muted">–</span>`}</td>
      <td class="figure">${number(row.solved)}</td>
      <td class="figure">${this.risk(row.breaches)}</td>
      <td>
        <span class="state" data-state=${state}>${word("team_state", state)}</span>
        <button class="plain" @click=${() => this.setAway(row, !row.away)}>
          ${row.away ? t("team.set_back") : t("team.set_away")}<span class="visually-hidden">: ${row.displayName ?? row.id}</span>
        </button>
      </td>
    </tr>`;
  }

  /** @param {number | null} open @param {number} highest */
  open(open, highest) {
    return html`<span class="load">${shareBar(open, highest)} <span>${number(open)}</span></span>`;
  }

  /** The cases at risk of a person, which is where a supervisor goes on. @param {string} assignedAgentId @param {number | null} count */
  atRisk(assignedAgentId, count) {
    if (!count) return this.risk(count);
    return html`<a href="/console/?${query({ view: "due", assignedAgentId })}" aria-label=${`${t("view.due")}: ${number(count)}`}>${this.risk(count)}</a>`;
  }

  /** @param {number | null} count */
  risk(count) {
    return html`<span data-level=${count ? "late" : nothing}>${number(count)}</span>`;
  }

  /** @param {AgentEntry} entry @param {boolean} away */
  async setAway({ id, displayName }, away) {
    const change = async (/** @type {boolean} */ value) => {
      await setAway(id, value);
      await this.readPeople();
    };
    try {
      await change(away);
      const name = displayName ?? id;
      toast({ text: away ? t("team.is_away", { name }) : t("team.is_back", { name }), undo: () => change(!away) });
    } catch (failure) {
      toast({ text: explain(failure), isError: true });
    }
  }

  /** @param {Record<string, any[]>} reports */
  report(reports) {
    const { days } = this;
    const { team, channel } = this.filters;
    const byDay = new Map(reports.day.map((row) => [row.day, row]));
    const values = (/** @type {(row: any) => number | null} */ figure, /** @type {number | null} */ none = 0) => days.map((day) => (byDay.has(day) ? figure(byDay.get(day)) : none));
    const sum = (/** @type {(row: any) => number} */ figure) => reports.day.reduce((all, row) => all + figure(row), 0);
    const total = /** @type {[TextName, number][]} */ ([
      ["team.opened", sum(({ opened }) => opened)],
      ["team.solved", sum(({ solved }) => solved)],
      ["team.reopened", sum(({ reopened }) => reopened)],
      ["team.breaches", sum(breachesOf)],
    ]);
    const [from, to] = [days[0], days[days.length - 1]];
    return html`<section>
      <header class="page-head">
        <h2>${t("team.report", { n: days.length })}</h2>
        ${team || channel ? html`<span class="muted">${t("team.csv_all")}</span>` : nothing}
        <a class="button" href="/support/reports/cases?${query({ from, to, format: "csv" })}" download="cases-${from}-${to}.csv">${t("team.csv")}</a>
      </header>
      ${this.completeSince ? html`<p class="warning">${t("team.complete_since", { time: dateAndTime(this.completeSince) })}</p>` : nothing}
      <dl class="tiles">
        ${total.map(([name, value]) => html`<div><dt>${t(name)}</dt><dd>${number(value)}</dd></div>`)}
      </dl>
      <div class="charts">
        ${dayChart(t("team.opened_solved"), days, [
          { name: t("team.opened"), kind: "bars", values: values(({ opened }) => opened) },
          { name: t("team.solved"), kind: "line", values: values(({ solved }) => solved) },
        ])}
        ${dayChart(t("team.breaches"), days, [{ name: t("team.breaches"), kind: "bars", values: values(breachesOf) }])}
        ${dayChart(t("team.first_answer"), days, [{ name: t("team.median"), kind: "line", values: values(({ firstAnswer }) => firstAnswer.median, null) }], duration)}
        ${dayChart(t("team.resolution"), days, [{ name: t("team.median"), kind: "line", values: values(({ resolution }) => resolution.median, null) }], duration)}
      </div>
      <p class="muted">${t("team.utc")}</p>
    </section>`;
  }
}

/** @param {any} row of a report, or undefined */
function breachesOf(row) {
  return Object.values(row?.breaches ?? {}).reduce((sum, each) => sum + each, 0);
}

customElements.define("team-page", TeamPage);
