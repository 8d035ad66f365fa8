/** The layers of the picture: which are drawn, and their buttons. */

import { make, setHidden } from "./dom.js";

const SHOWN = { picture: true, boxes: true, keypoints: true, outlines: true, ids: true, trails: true, scores: false, zones: true };

export class Layers {
  /** @param {() => void} changed is called when the user has shown or hidden a layer */
  constructor(place, changed) {
    this.shown = { ...SHOWN };
    this.changed = changed;
    this.buttons = new Map();
    for (const name of Object.keys(SHOWN)) {
      const text = name[0].toUpperCase() + name.slice(1);
      const button = make("button", { type: "button", class: "toggle", text, "aria-pressed": String(SHOWN[name]),
        onclick: () => this.toggle(name) });
      this.buttons.set(name, button);
      place.append(button);
    }
  }

  toggle(name) {
    this.set(name, !this.shown[name]);
    this.changed();
  }

  set(name, isShown) {
    this.shown[name] = isShown;
    this.buttons.get(name).setAttribute("aria-pressed", String(isShown));
  }

  /** Offer the layers that a frame can have. */
  offer(settlement, bitmap) {
    setHidden(this.buttons.get("keypoints"), !settlement?.keypoints);
    setHidden(this.buttons.get("outlines"), !settlement?.outlines);
    setHidden(this.buttons.get("picture"), !(bitmap || settlement?.size));
  }
}
