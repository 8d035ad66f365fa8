/** The selected track, and what can be done with it. Acts are shown only if the daemon allows them. */

import { colourOf } from "./colour.js";
import { byId, make, setHidden, setText } from "./dom.js";

const OFFERED = 3;
const ARMED_MS = 4000;
const PAIR = { swap: "Swap with", merge: "Merge into" };

export class Panel {
  /** @param {object} viewer has `panelScene()`, `correct(action, params)`, `pickSecond(action)` and the acts of the buttons */
  constructor(viewer) {
    this.viewer = viewer;
    this.chips = { swap: byId("swap-chips"), merge: byId("merge-chips") };
    this.offered = "";
    this.id = -1;
    byId("follow-track").addEventListener("click", () => viewer.toggleFollow());
    byId("hide-track").addEventListener("click", () => viewer.toggleHidden(this.id));
    byId("deselect").addEventListener("click", () => viewer.pick(-1));
    byId("rename-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.rename();
    });
    byId("new-id").addEventListener("click", () => viewer.correct("new_id", { track: this.id }));
    byId("end-track").addEventListener("click", () => viewer.correct("end", { track: this.id }));
    byId("undo").addEventListener("click", () => viewer.correct("undo", {}));
    byId("pick-cancel").addEventListener("click", () => viewer.pickSecond(null));
    this.arm(byId("reset"), "Reset: click again", () => viewer.reset());
  }

  /** An act that cannot be undone needs a second click. */
  arm(button, question, act) {
    const text = button.textContent;
    let timer = 0;
    const disarm = () => {
      clearTimeout(timer);
      timer = 0;
      button.textContent = text;
      button.classList.remove("armed");
    };
    button.addEventListener("click", () => {
      if (timer !== 0) {
        disarm();
        act();
        return;
      }
      button.textContent = question;
      button.classList.add("armed");
      timer = setTimeout(disarm, ARMED_MS);
    });
  }

  rename() {
    const name = byId("name").value.trim();
    this.viewer.correct("rename", { track: this.id, name: name === "" ? null : name });
    byId("name").blur();
  }

  focusName() {
    if (this.id >= 0 && this.viewer.mayAct) byId("name").select();
  }

  update() {
    const { id, name, state, score, isFollowed, isHidden, partners, mayAct, picking, isPaused, scheme } =
      this.viewer.panelScene();
    const isOther = id !== this.id;
    this.id = id;
    setHidden(byId("selection"), id < 0);
    setHidden(byId("no-selection"), id >= 0);
    setHidden(byId("acts"), !mayAct || id < 0);
    setHidden(byId("stream-acts"), !mayAct);
    setHidden(byId("acts-note"), !(mayAct && isPaused && id >= 0));
    setHidden(byId("pick-banner"), picking === null);
    if (picking !== null) setText(byId("pick-text"), `${PAIR[picking]} …: click the other track, here or in the table`);
    if (id < 0) return;
    setText(byId("selected-id"), String(id));
    setText(byId("selected-name"), name ?? "");
    setText(byId("selected-state"), score ? `${state}, score ${score}` : state);
    byId("selected-swatch").style.backgroundColor = colourOf(id, scheme);
    byId("follow-track").setAttribute("aria-pressed", String(isFollowed));
    setText(byId("hide-track"), isHidden ? "Show" : "Hide");
    const input = byId("name");
    if (isOther || document.activeElement !== input) input.value = name ?? "";
    this.showPartners(partners, scheme);
  }

  /** Offer the most likely tracks as the second of a pair, so that a correction is two clicks. */
  showPartners(partners, scheme) {
    const offered = { swap: partners.swap.slice(0, OFFERED).sort((a, b) => a - b), merge: partners.merge.slice(0, OFFERED) };
    const key = `${this.id}:${offered.swap}:${offered.merge}:${scheme}`;
    if (key === this.offered || this.isPointed()) return; // a chip does not move away below the pointer
    this.offered = key;
    for (const [action, list] of Object.entries(this.chips)) {
      const chips = offered[action].map((other) => {
        const swatch = make("span", { class: "swatch" });
        swatch.style.backgroundColor = colourOf(other, scheme);
        return make("button", {
          type: "button", class: "chip", "aria-label": `${PAIR[action]} ${other}`, onclick: () => this.viewer.pair(action, other),
        }, swatch, String(other));
      });
      const more = make("button", { type: "button", class: "chip more", text: "pick…",
        "aria-label": `${PAIR[action]} a track that is clicked next`, onclick: () => this.viewer.pickSecond(action) });
      const none = make("span", { class: "caption", text: action === "merge" ? "no track is lost" : "no other track" });
      list.replaceChildren(...(chips.length > 0 ? [...chips, more] : [none]));
    }
  }

  isPointed() {
    if (!this.offered.startsWith(`${this.id}:`)) return false;
    return Object.values(this.chips).some((list) => list.matches(":hover") || list.contains(document.activeElement));
  }
}
