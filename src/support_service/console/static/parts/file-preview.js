/** A picture of a case. Its bytes come as a blob, because a redirect to another storage could not be shown. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";
import { pathOf } from "./timeline.js";

class FilePreview extends Element {
  /** @type {any} */
  file = null;
  url = "";
  failed = false;

  async firstUpdated() {
    this.querySelector("dialog")?.showModal();
    try {
      const response = await fetch(pathOf(this.file.uri), { redirect: "manual" });
      if (!response.ok) throw new Error("no preview");
      this.set({ url: URL.createObjectURL(await response.blob()) });
    } catch {
      this.set({ failed: true });
    }
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    URL.revokeObjectURL(this.url);
  }

  render() {
    return html`
      <dialog class="preview" aria-label=${this.file.filename} @close=${() => this.dispatchEvent(new Event("close"))}>
        ${this.url ? html`<img src=${this.url} alt=${this.file.filename} />` : nothing}
        ${this.failed ? html`<p>${t("files.no_preview")}</p>` : nothing}
        <form method="dialog" class="row">
          <a class="button" href=${pathOf(this.file.uri)} download>${t("files.download")}</a>
          <button autofocus>${t("help.close")}</button>
        </form>
      </dialog>
    `;
  }
}

customElements.define("file-preview", FilePreview);
