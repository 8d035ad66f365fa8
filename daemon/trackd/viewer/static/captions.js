/** What the page says in words about the stream and the frame that it shows. */

import { byId, setHidden, setText } from "./dom.js";

export class Captions {
  /** @param {object} viewer has `stream`, `settlement`, `playback`, `fleet`, `isConnected` and `connectionState` */
  constructor(viewer) {
    this.viewer = viewer;
  }

  titles() {
    const { stream } = this.viewer;
    setText(byId("stream-name"), stream?.name ?? "No stream");
    setText(byId("stream-model"), stream?.row?.model ?? "");
    document.title = stream ? `${stream.name} · trackd` : "trackd";
  }

  /** The frame's number, flags and picture as text. */
  frame() {
    const { settlement, stream, playback } = this.viewer;
    const isPast = playback.isPaused;
    const skip = isPast ? null : stream?.skip;
    const flags = settlement?.flags.map((flag) => flag.replaceAll("_", " ")) ?? [];
    if (skip) flags.push(`frame ${skip.frameIndex} ${skip.status}${skip.reason ? `: ${skip.reason.replaceAll("_", " ")}` : ""}`);
    if (settlement && !settlement.tracked) flags.push(`${settlement.status}: ${settlement.reason}`);
    if (isPast && settlement?.image === null && stream.bitmap !== null) flags.push("picture not kept");
    if (stream?.pictureError) flags.push(stream.pictureError);
    setText(byId("badges"), flags.join(" · "));
    let stamp = "";
    if (settlement !== null) {
      const ago = isPast && stream.shown ? stream.shown.seconds - settlement.seconds : 0;
      stamp = `frame ${settlement.frameIndex}${ago >= 0.05 ? ` · −${ago.toFixed(1)} s` : ""}`;
    }
    setText(byId("stamp"), stamp);
  }

  /** The frame that is shown, for those who do not see the picture. */
  label() {
    const { settlement, stream, playback } = this.viewer;
    const label = settlement === null ? "No picture yet"
      : `Stream ${stream.name}, frame ${settlement.frameIndex}, ${settlement.ids.length} tracks${playback.isPaused ? ", paused" : ""}`;
    byId("picture").setAttribute("aria-label", label);
  }

  /** Say why there is nothing to see. */
  notice() {
    const { stream, fleet, isConnected, connectionState } = this.viewer;
    let text = "";
    if (!isConnected) {
      text = { refused: "The daemon asks for a token.", connecting: "Connecting to the daemon …" }[connectionState]
        ?? "No connection to the daemon. The page connects again by itself.";
    } else if (stream === null && fleet?.hasRows) text = "No stream is open at this member. The list has those of the others.";
    else if (stream === null) text = "No stream is open. The first frames that a client sends appear here.";
    else if (!stream.isOpen) text = "The stream was closed.";
    else if (stream.row?.unavailable) text = `The stream is unavailable: ${stream.row.unavailable}`;
    else if (stream.shown === null) text = "Waiting for a frame …";
    setText(byId("notice"), text);
    setHidden(byId("notice"), text === "");
    document.body.classList.toggle("stale", text !== "" && stream !== null);
  }
}
