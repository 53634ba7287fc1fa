/** The list that a case was opened from, beside it where there is room. It stays in its order while its cases change. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { CaseList } from "../lib/case-list.js";
import { t, text } from "../lib/i18n.js";
import { live } from "../lib/live.js";
import { Element, html, queueLeft } from "../lib/page.js";
import { urgentClock } from "./clock.js";

const TICK = 30_000; // ms between updates of times

class CaseNeighbours extends Element {
  // Not a field of the class, which would hide the property that renders the list again.
  static properties = { caseId: {} };
  cases = new CaseList(() => this.requestUpdate());

  constructor() {
    super();
    this.caseId = "";
  }

  connectedCallback() {
    super.connectedCallback();
    this.listen(live, "change", ({ detail }) => this.cases.apply(detail));
    this.every(TICK, () => this.requestUpdate());
    this.listen(live, "resync", () => this.cases.refreshSoon());
    this.cases.set({ ...queueLeft.list });
    this.cases.refreshSoon();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.cases.stop();
  }

  /** The case that was brought into view. */
  foundId = "";

  updated() {
    const current = this.foundId === this.caseId ? null : this.querySelector("[aria-current=true]");
    if (!current) return;
    this.foundId = this.caseId;
    current.scrollIntoView({ block: "nearest" });
  }

  render() {
    const now = Date.now();
    return html`<nav class="neighbours" aria-label=${t("case.neighbours")}>
      <ol>
        ${this.cases.items.map((item) => {
          const clock = urgentClock(item, now);
          return html`<li>
            <a href="/console/cases/${encodeURIComponent(item.id)}" aria-current=${item.id === this.caseId ? "true" : nothing} ?data-left=${item.isGone}>
              <bdi class="subject">${item.subject}</bdi>
              <span class="under"><bdi class="muted">${item.customerName ?? text(item.customerId)}</bdi>${clock ? html`<span class="clock" data-level=${clock.level} title=${clock.title}>${clock.text}</span>` : nothing}</span>
            </a>
          </li>`;
        })}
      </ol>
    </nav>`;
  }
}

customElements.define("case-neighbours", CaseNeighbours);
