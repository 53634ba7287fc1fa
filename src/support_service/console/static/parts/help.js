/** The list of keys. */

import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";

const KEYS = /** @type {[import("../lib/i18n.js").TextName, [string, import("../lib/i18n.js").TextName][]][]} */ ([
  ["queue.title", [["j / k", "help.move"], ["Enter", "help.open"], ["c", "help.claim"], ["/", "help.search"], ["n", "help.show_new"]]],
  ["case.title", [["r", "help.reply"], ["n", "help.note"], ["c", "help.claim"], ["f", "help.file"], ["u", "help.back"]]],
  ["composer.title", [["Ctrl + Enter", "help.send"], [";", "help.macro"]]],
  ["help.everywhere", [["?", "help.title"], ["Esc", "help.close"]]],
]);

class HelpDialog extends Element {
  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    return html`
      <dialog aria-labelledby="help-title" @close=${() => this.dispatchEvent(new Event("close"))}>
        <h2 id="help-title">${t("help.title")}</h2>
        <div class="key-groups">
          ${KEYS.map(
            ([title, keys]) =>
              html`<section>
                <h3>${t(title)}</h3>
                <dl>
                  ${keys.map(([key, text]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${t(text)}</dd></div>`)}
                </dl>
              </section>`,
          )}
        </div>
        <form method="dialog"><button>${t("help.close")}</button></form>
      </dialog>
    `;
  }
}

customElements.define("help-dialog", HelpDialog);
