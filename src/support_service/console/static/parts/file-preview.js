/** Pictures of a case. Their bytes come as blobs, because a redirect to another storage could not be shown. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";
import { pathOf } from "./timeline.js";

const LARGEST_THUMBNAIL = 10_000_000; // bytes of a picture that is shown without being asked for

/** @param {any} file @returns {Promise<string>} the address of its bytes in this page */
async function load(file) {
  const response = await fetch(pathOf(file.uri), { redirect: "manual" });
  if (!response.ok) throw new Error("no preview");
  return URL.createObjectURL(await response.blob());
}

/** A small picture that opens; it is loaded when it comes into view. */
class FileThumbnail extends Element {
  // Not a field of the class, which would hide the property that renders the picture.
  static properties = { file: {} };
  url = "";
  failed = false;
  watcher = new IntersectionObserver((seen) => seen.some(({ isIntersecting }) => isIntersecting) && this.show());

  constructor() {
    super();
    /** @type {any} */
    this.file = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.watcher.observe(this);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.watcher.disconnect();
    URL.revokeObjectURL(this.url);
    this.url = "";
  }

  async show() {
    this.watcher.disconnect();
    if (this.url || this.file.sizeBytes > LARGEST_THUMBNAIL) return;
    const url = await load(this.file).catch(() => "");
    if (this.isConnected) this.set({ url, failed: !url });
    else URL.revokeObjectURL(url);
  }

  render() {
    const { filename } = this.file;
    return html`<button type="button" class="thumbnail" aria-label=${t("files.preview_one", { name: filename })} @click=${() => this.dispatchEvent(new Event("open"))}>
      ${this.url ? html`<img src=${this.url} alt="" />` : html`<span class="muted">${this.failed ? t("files.no_picture") : "…"}</span>`}
    </button>`;
  }
}

/** One of several pictures; the arrow keys lead to the others. */
class FilePreview extends Element {
  /** @type {any} */
  file = null;
  /** @type {any[]} */
  files = [];
  url = "";
  failed = false;

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
    this.show(this.file);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    URL.revokeObjectURL(this.url);
  }

  /** @param {any} file */
  async show(file) {
    URL.revokeObjectURL(this.url);
    this.set({ file, url: "", failed: false });
    const url = await load(file).catch(() => "");
    if (this.isConnected && file === this.file) this.set({ url, failed: !url });
    else URL.revokeObjectURL(url);
  }

  /** @param {number} step */
  move(step) {
    const { files } = this;
    if (files.length > 1) this.show(files[(files.findIndex(({ id }) => id === this.file.id) + step + files.length) % files.length]);
  }

  /** @param {KeyboardEvent} event */
  press({ key }) {
    if (key === "ArrowLeft" || key === "ArrowRight") this.move(key === "ArrowRight" ? 1 : -1);
  }

  render() {
    const hasOthers = this.files.length > 1;
    return html`
      <dialog class="preview" aria-label=${this.file.filename} @keydown=${this.press} @close=${() => this.dispatchEvent(new Event("close"))}>
        ${this.url ? html`<img src=${this.url} alt=${this.file.filename} />` : nothing}
        ${this.failed ? html`<p>${t("files.no_preview")}</p>` : nothing}
        <form method="dialog" class="row">
          ${hasOthers
            ? html`<button type="button" aria-label=${t("files.previous")} @click=${() => this.move(-1)}>‹</button>
                <button type="button" aria-label=${t("files.next")} @click=${() => this.move(1)}>›</button>`
            : nothing}
          <a class="button" href=${pathOf(this.file.uri)} download>${t("files.download")}</a>
          <button autofocus>${t("help.close")}</button>
        </form>
      </dialog>
    `;
  }
}

customElements.define("file-thumbnail", FileThumbnail);
customElements.define("file-preview", FilePreview);
