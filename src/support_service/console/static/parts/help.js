/** The list of keys. */

import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";

/** @typedef {import("../lib/i18n.js").TextName} TextName */

/** The keys by the pages that have them, with what they do. @type {Record<string, [TextName, [string, TextName][]]>} */
export const KEYS = {
  queue: [
    "queue.title",
    [
      ["j / k", "help.move"],
      ["Enter", "help.open"],
      ["c", "help.claim"],
      ["/", "help.search"],
      ["n", "help.show_new"],
      ["x", "help.select"],
      ["J / K", "help.select_more"],
      ["a", "bulk.assign"],
      ["p", "bulk.priority"],
      ["s", "bulk.status"],
      ["t", "bulk.tag"],
      ["h", "bulk.snooze"],
      ["m", "bulk.merge"],
    ],
  ],
  case: [
    "case.title",
    [
      ["j / k", "help.next_case"],
      ["r", "help.reply"],
      ["n", "help.note"],
      ["s", "filter.status"],
      ["p", "filter.priority"],
      ["a", "field.assignedAgentId"],
      ["c", "help.claim"],
      ["h", "help.snooze"],
      ["f", "help.file"],
      ["u", "help.back"],
    ],
  ],
  composer: ["composer.title", [["Ctrl + Enter", "help.send"], ["Ctrl + Shift + Enter", "help.send_next"], ["Alt + Enter", "composer.other_ends"], [";", "help.macro"], ["@", "help.mention"]]],
  everywhere: [
    "help.everywhere",
    [
      ["Ctrl + K", "palette.title"],
      ["g m", "view.mine"],
      ["g u", "view.unassigned"],
      ["g w", "view.waiting"],
      ["g r", "view.due"],
      ["g t", "team.title"],
      ["g o", "oncall.title"],
      ["g a", "audit.title"],
      ["z", "toast.undo"],
      ["?", "help.title"],
      ["Esc", "help.close"],
    ],
  ],
};

class HelpDialog extends Element {
  firstUpdated() {
    const dialog = this.querySelector("dialog");
    dialog?.showModal();
    dialog?.scrollTo(0, 0); // the focus is on the button at its end
  }

  render() {
    return html`
      <dialog aria-labelledby="help-title" @close=${() => this.dispatchEvent(new Event("close"))}>
        <h2 id="help-title">${t("help.title")}</h2>
        <div class="key-groups">
          ${Object.values(KEYS).map(
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
