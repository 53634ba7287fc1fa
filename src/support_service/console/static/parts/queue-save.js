/** The dialog that saves the filters of the queue as a view, for its user or a team; it also changes and deletes a saved view. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, me, newKey, request } from "../lib/api.js";
import { Element, go, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";
import { toast } from "./toast.js";

const PATH = "/support/views";

class SaveView extends Element {
  /** @type {import("../pages/queue.js").QueuePage | null} */
  page = null;
  busy = false;
  sent = "";
  key = "";
  failure = "";

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  get saved() {
    return this.page?.view.saved ?? null;
  }

  render() {
    const { saved } = this;
    const teams = [...new Set([...me.teams, ...(me.role === "supervisor" ? this.page?.people.flatMap((each) => each.teams) ?? [] : []), ...(saved?.team ? [saved.team] : [])])].sort();
    return html`
      <dialog aria-labelledby="save-title" @close=${() => this.dispatchEvent(new Event("close"))}>
        <h2 id="save-title">${t("save.title")}</h2>
        <form class="fields" @submit=${this.submit}>
          <label>${t("save.name")} <input name="name" maxlength="100" required autocomplete="off" autofocus .value=${saved?.name ?? ""} /></label>
          <label
            >${t("save.for")}
            <select name="team">
              <option value="">${t("save.for_me")}</option>
              ${teams.map((team) => html`<option value=${team} .selected=${team === saved?.team}>${t("view.team", { team })}</option>`)}
            </select></label
          >
          ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
          <div class="row end">
            ${saved ? html`<button type="button" class="danger" ?disabled=${this.busy} @click=${this.delete}>${t("save.delete")}</button><span class="grow"></span>` : nothing}
            <button type="button" @click=${this.close}>${t("app.cancel")}</button>
            ${saved ? html`<button value="change" ?disabled=${this.busy}>${t("save.change")}</button>` : nothing}
            <button class="primary" ?disabled=${this.busy}>${saved ? t("save.as_new") : t("save.save")}</button>
          </div>
        </form>
      </dialog>
    `;
  }

  close() {
    this.querySelector("dialog")?.close();
  }

  /** @param {SubmitEvent} event */
  submit(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const body = { name: form.get("name"), team: form.get("team") || null, query: this.page?.filters };
    const isChange = /** @type {HTMLButtonElement} */ (event.submitter)?.value === "change";
    this.send(async () => {
      const [method, path] = isChange ? ["PATCH", `${PATH}/${this.saved.id}`] : ["POST", PATH];
      const { data } = await request(path, { method, body, key: this.keyOf(path, body) });
      await this.page?.loadViews();
      go(`/console/?view=saved:${data.id}`);
      const text = t("save.saved", { name: data.name });
      toast(isChange ? { text } : { text, undo: () => this.discard(data.id) });
    });
  }

  /** Return the key of a request: a repeat after an answer was lost has the same one. @param {string} path @param {unknown} body */
  keyOf(path, body) {
    const sent = JSON.stringify([path, body]);
    if (sent !== this.sent) Object.assign(this, { sent, key: newKey() });
    return this.key;
  }

  delete() {
    const { id, name, team, query } = this.saved;
    this.send(async () => {
      await this.discard(id);
      toast({
        text: t("save.deleted", { name }),
        undo: async () => {
          const { data } = await request(PATH, { method: "POST", body: { name, team, query }, key: newKey() });
          await this.page?.loadViews();
          go(`/console/?view=saved:${data.id}`);
        },
      });
    });
  }

  /** Delete a view, and leave it if it is shown. @param {string} id */
  async discard(id) {
    await request(`${PATH}/${id}`, { method: "DELETE", key: newKey() });
    if (this.page?.view.saved?.id === id) go("/console/");
    await this.page?.loadViews();
  }

  /** @param {() => Promise<void>} change */
  async send(change) {
    this.set({ busy: true, failure: "" });
    try {
      await change();
      this.close();
    } catch (failure) {
      this.set({ failure: explain(failure) });
    }
    this.set({ busy: false });
  }
}

customElements.define("save-view", SaveView);
