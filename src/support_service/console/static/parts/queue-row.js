/** A row of the queue. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { dateAndTime, since, slaMark } from "../lib/format.js";
import { t, word } from "../lib/i18n.js";

/**
 * @param {any} item
 * @param {{now: number, active: boolean, viewers: string[]}} shown
 */
export function queueRow(item, { now, active, viewers }) {
  return html`
    <tr role="row" data-case=${item.id} class=${active ? "active" : ""} ?data-left=${item.left}>
      <th scope="row" role="rowheader" class="subject">
        <a href="/console/cases/${encodeURIComponent(item.id)}"><bdi>${item.subject}</bdi></a>
        ${item.tags.length ? html`<span class="tags">${item.tags.map((/** @type {string} */ tag) => html`<bdi class="tag">${tag}</bdi>`)}</span>` : nothing}
        ${viewers.length ? html`<span class="viewers">${t("queue.viewed_by", { names: viewers.join(", ") })}</span>` : nothing}
        ${item.match ? matchLine(item.match) : nothing}
      </th>
      <td role="cell" class="customer">
        ${item.customerId
          ? html`<a href="/console/customers/${encodeURIComponent(item.customerId)}"><bdi>${item.customerId}</bdi></a>`
          : html`<span class="muted">–</span>`}
      </td>
      <td role="cell" class="status"><span class="pill" data-status=${item.status}>${word("status", item.status)}</span></td>
      <td role="cell" class="priority"><span class="priority-mark" data-priority=${item.priority}>${word("priority", item.priority)}</span></td>
      <td role="cell" class="waiting">${waiting(item, now)} ${slaMark(item.sla, now)}</td>
      <td role="cell" class="assignee">
        ${item.assignedAgentId ? html`<bdi>${item.assignedAgentId}</bdi>` : html`<span class="muted">${t("case.unassigned")}</span>`}
        ${item.team ? html`<bdi class="muted team">${item.team}</bdi>` : nothing}
      </td>
    </tr>
  `;
}

/**
 * @param {any} item
 * @param {number} now
 */
function waiting(item, now) {
  if (!item.waitingSince) return html`<span class="muted" aria-label=${t("queue.not_waiting")}>–</span>`;
  return html`<time datetime=${item.waitingSince} title=${dateAndTime(item.waitingSince)}>${since(item.waitingSince, now)}</time>`;
}

/** Show where a case matches the search, with the words marked. @param {{field: string, snippet: string, highlights: number[][]}} match */
function matchLine(match) {
  const characters = [...match.snippet]; // highlights count code points
  const parts = [];
  let from = 0;
  for (const [start, end] of match.highlights) {
    parts.push(characters.slice(from, start).join(""), html`<mark>${characters.slice(start, end).join("")}</mark>`);
    from = end;
  }
  parts.push(characters.slice(from).join(""));
  return html`<bdi class="match">${parts}</bdi>`;
}
