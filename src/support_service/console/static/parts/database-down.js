/** Instructions for the engineer on call while the database is down. */

import { t } from "../lib/i18n.js";
import { html } from "../lib/page.js";

export function databaseDown() {
  return html`<section class="database-down">
    <h2>${t("oncall.database_down")}</h2>
    <p>${t("oncall.database_down_text")}</p>
    <p>${t("oncall.find_cause")}</p>
    <code tabindex="0">support-service database waits</code>
    <p>${t("oncall.without_console")}</p>
    <code tabindex="0">support-service timeline degrade payment --for 30m --reason "being restored"</code>
  </section>`;
}
