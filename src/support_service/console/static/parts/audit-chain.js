/** The state of the audit log's chain: whether the service finds it valid, and its head, to be kept elsewhere. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, query, request } from "../lib/api.js";
import { Element, html } from "../lib/page.js";
import { number, since, t } from "../lib/i18n.js";

class AuditChain extends Element {
  /** @type {any} the newest answer */
  found = null;
  /** @type {number} position of the entry before the first one that was verified */
  start = 0;
  failure = "";
  busy = false;
  copied = false;

  connectedCallback() {
    super.connectedCallback();
    this.verify(null);
  }

  /** Verify the end of the chain, or with `after` everything after a position, in parts. @param {number | null} after */
  async verify(after) {
    this.set({ busy: true, failure: "", copied: false });
    const start = after;
    try {
      do {
        const { data } = await request(`/support/audit/verification?${query({ after })}`);
        this.set({ found: data, start: start ?? data.after });
        after = data.verifiedTo;
      } while (this.isConnected && this.found.holds && this.found.more);
    } catch (failure) {
      this.set({ failure: explain(failure) });
    }
    this.set({ busy: false });
  }

  render() {
    return html`<section class="chain" aria-labelledby="chain-title" aria-busy=${this.busy} data-holds=${this.found?.holds ?? nothing}>
      <h2 id="chain-title">${t("audit.chain")}</h2>
      ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing} ${this.found ? this.result(this.found) : nothing}
    </section>`;
  }

  /** @param {any} found */
  result(found) {
    const { head } = found;
    const range = { from: number(Math.min(this.start + 1, found.verifiedTo)), to: number(found.verifiedTo) };
    return html`
      <p role="status">
        ${!found.holds
          ? html`<strong class="error">${t("audit.broken", range)}</strong> <span lang="en">${found.flaw}</span>`
          : head.position
            ? html`<strong class="good">${t("audit.holds", range)}</strong>`
            : t("audit.no_entries")}
        ${found.oldestUnsealedAt ? html`<span class="muted">${t("audit.unsealed_since", { time: since(found.oldestUnsealedAt) })}</span>` : nothing}
      </p>
      ${head.position
        ? html`<p>
              ${t("audit.head", { position: number(head.position) })} <code tabindex="0">${head.hash}</code>
              <button @click=${() => this.copy(head.hash)}>${this.copied ? t("audit.copied") : t("audit.copy")}</button>
              <button ?disabled=${this.busy} @click=${() => this.verify(0)}>${this.busy ? t("audit.verifying") : t("audit.verify_all")}</button>
            </p>
            <p class="muted">${t("audit.head_text")}</p>`
        : nothing}
    `;
  }

  /** Copy the hash; plain-HTTP hosts have no clipboard. @param {string} hash */
  async copy(hash) {
    try {
      await navigator.clipboard.writeText(hash);
      this.set({ copied: true });
    } catch {
      this.set({ failure: t("audit.not_copied") });
    }
  }
}

customElements.define("audit-chain", AuditChain);
