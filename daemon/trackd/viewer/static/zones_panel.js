/** The list of zones and lines, the acts on the selected one, and the banner above the picture while one is drawn. */

import { movement } from "./drawing.js";
import { byId, make, setHidden, setText } from "./dom.js";
import { keyOf } from "./zones.js";

const SEND_MS = 300; // after the last key of a movement

const HINTS = {
  zone: "Click the corners, then Done",
  line: "Click the two ends",
};

export class ZonesPanel {
  /** @param {object} viewer has `mayAct`, `stream`, `drawing`, and the acts of the buttons */
  constructor(viewer) {
    this.viewer = viewer;
    this.listed = "";
    this.isNaming = false;
    this.timer = 0;
    const { drawing } = viewer;
    byId("draw-zone").addEventListener("click", () => viewer.drawPlace("zone"));
    byId("draw-line").addEventListener("click", () => viewer.drawPlace("line"));
    byId("draw-done").addEventListener("click", () => drawing.finish());
    byId("draw-cancel").addEventListener("click", () => viewer.cancelDrawing());
    byId("redraw-place").addEventListener("click", () => viewer.drawPlace(drawing.place?.kind, drawing.place?.name));
    byId("delete-place").addEventListener("click", () => viewer.deletePlace());
    byId("draw-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = byId("draw-name").value.trim();
      if (name !== "") drawing.save(name);
    });
    byId("draw-name").addEventListener("keydown", (event) => {
      if (event.key === "Escape") viewer.cancelDrawing();
    });
    byId("place-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = byId("place-name").value.trim();
      if (name !== "") drawing.rename(name);
      byId("place-name").blur();
    });
  }

  /** Move the selected zone or line by an arrow key; the movement is sent when the keys rest. */
  move(event) {
    const { drawing } = this.viewer;
    const { place } = drawing;
    const by = movement(event);
    if (by === null || place === null || !this.viewer.mayAct) return;
    event.preventDefault();
    event.stopPropagation();
    drawing.dragged = { points: drawing.moved({ points: drawing.dragged?.points ?? place.points }, by), corner: -1 };
    this.viewer.drawn();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => drawing.drop(false), SEND_MS);
  }

  update() {
    const { drawing, mayAct, stream } = this.viewer;
    const places = stream?.zones.places ?? [];
    const { kind, isComplete, place } = drawing;
    setHidden(byId("places"), stream === null || (places.length === 0 && !mayAct));
    setHidden(byId("place-acts"), !mayAct || stream === null);
    setHidden(byId("place-edit"), !mayAct || place === null);
    setHidden(byId("draw-banner"), kind === null); // it takes the place of the tools, so that the picture stays where it is
    setHidden(byId("tools"), kind !== null);
    setHidden(byId("draw-text"), isComplete);
    setHidden(byId("draw-done"), isComplete || kind === "line");
    setHidden(byId("draw-form"), !isComplete);
    if (kind !== null) setText(byId("draw-text"), HINTS[kind]);
    if (isComplete && !this.isNaming) {
      byId("draw-name").value = drawing.name || drawing.freeName(kind);
      byId("draw-name").select();
    }
    this.isNaming = isComplete;
    const input = byId("place-name");
    if (place !== null && document.activeElement !== input) input.value = place.name;
    this.list(places);
  }

  list(places) {
    const { drawing } = this.viewer;
    const listed = JSON.stringify([places.map(keyOf), drawing.selected]);
    if (listed === this.listed) return;
    this.listed = listed;
    const focused = document.activeElement?.dataset?.place;
    const chips = places.map((place) => {
      const key = keyOf(place);
      const isSelected = key === drawing.selected;
      const chip = make("button", { type: "button", class: "chip", "aria-pressed": String(isSelected), text: place.name,
        "aria-label": isSelected ? `${key}: the arrow keys move it` : key, "data-place": key, onkeydown: (event) => this.move(event),
        onclick: () => drawing.select(isSelected ? null : key) });
      return make("li", {}, chip);
    });
    byId("place-list").replaceChildren(...chips);
    if (focused) [...byId("place-list").querySelectorAll("button")].find((chip) => chip.dataset.place === focused)?.focus();
  }
}
