/** The keyboard: one table of keys, which is also the help. */

import { byId, make } from "./dom.js";

/** [keys, what they do, the viewer's method, its arguments, whether it needs the right to act] */
const KEYS = [
  ["Playback", [
    [[" "], "pause, or back to live", "togglePause", []],
    [["ArrowLeft"], "one frame back", "step", [-1]],
    [["ArrowRight"], "one frame forward", "step", [1]],
    [["Shift+ArrowLeft"], "ten frames back", "step", [-10]],
    [["Shift+ArrowRight"], "ten frames forward", "step", [10]],
    [["l", "End"], "back to live", "goLive", []],
  ]],
  ["Tracks", [
    [["j"], "select the next track", "selectNext", [1]],
    [["k"], "select the previous track", "selectNext", [-1]],
    [["f"], "follow the selected track", "toggleFollow", []],
    [["h"], "hide or show the selected track", "toggleHidden", []],
    [["a"], "show all tracks", "showAllTracks", []],
    [["/"], "search ids and names", "focusSearch", []],
    [["Escape"], "cancel, or select nothing", "cancel", []],
  ]],
  ["Picture", [
    [["+", "="], "zoom in", "zoom", [1.5]],
    [["-"], "zoom out", "zoom", [1 / 1.5]],
    [["0"], "show the whole picture", "fit", []],
    [["g"], "picture", "toggleLayer", ["picture"]],
    [["b"], "boxes", "toggleLayer", ["boxes"]],
    [["p"], "keypoints", "toggleLayer", ["keypoints"]],
    [["o"], "outlines", "toggleLayer", ["outlines"]],
    [["i"], "ids", "toggleLayer", ["ids"]],
    [["t"], "trails", "toggleLayer", ["trails"]],
    [["c"], "scores", "toggleLayer", ["scores"]],
    [["w"], "zones and lines", "toggleLayer", ["zones"]],
    [["]"], "next stream", "selectStream", [1]],
    [["["], "previous stream", "selectStream", [-1]],
    [["d"], "dark or light", "toggleTheme", []],
    [["?"], "this help", "toggleHelp", []],
  ]],
  ["Zones and lines", [
    [["z"], "draw a zone", "drawPlace", ["zone"], true],
    [["x"], "draw a line", "drawPlace", ["line"], true],
    [["v"], "select the next one", "selectPlace", []],
    [["Delete"], "delete the selected one", "deletePlace", [], true],
  ]],
  ["Corrections", [
    [["r"], "rename the selected track", "focusName", [], true],
    [["s"], "swap it with the track that is clicked next", "pickSecond", ["swap"], true],
    [["m"], "merge it into the track that is clicked next", "pickSecond", ["merge"], true],
    [["n"], "new id from here", "correctSelected", ["new_id"], true],
    [["e"], "end the track", "correctSelected", ["end"], true],
    [["u"], "undo the last correction", "correct", ["undo", {}], true],
  ]],
];
const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

function caption(key) {
  return key.split("+").map((part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join(" ") || "+";
}

export class Keys {
  constructor(viewer) {
    this.viewer = viewer;
    this.acts = new Map();
    const help = byId("help-keys");
    for (const [title, entries] of KEYS) {
      const list = make("dl");
      for (const [keys, text, method, args, corrects] of entries) {
        for (const key of keys) this.acts.set(key, { method, args, corrects: corrects === true });
        const shown = keys[0] === "+" ? [make("kbd", { text: "+" })] : keys.slice(0, 1).map((key) => make("kbd", { text: caption(key) }));
        list.append(make("div", {}, make("dt", {}, ...shown), make("dd", { text })));
      }
      help.append(make("section", {}, make("h3", { text: title }), list));
    }
    addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target instanceof HTMLInputElement && target.type !== "range" && target.type !== "checkbox") {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    if (!(target instanceof HTMLButtonElement) && this.viewer.drawing.key(event)) {
      event.preventDefault();
      return;
    }
    const isButton = target instanceof HTMLButtonElement;
    if (isButton && event.key === " ") return; // it presses the button
    const key = event.key.length === 1 ? event.key.toLowerCase() : (event.shiftKey ? "Shift+" : "") + event.key;
    const act = this.acts.get(key);
    if (act === undefined || (act.corrects && !this.viewer.mayAct)) return;
    event.preventDefault();
    if (event.repeat && act.corrects) return; // a key that is held down corrects once
    this.viewer[act.method](...act.args);
  }
}
