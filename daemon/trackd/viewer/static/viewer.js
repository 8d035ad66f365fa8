/** The page: connects the socket, the streams and what is seen of them. */

import { Connection } from "./connection.js";
import { Captions } from "./captions.js";
import { Corrections, partnersOf } from "./corrections.js";
import { identityText } from "./identity.js";
import { byId, icon, setHidden, setText } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Fleet, streamOfAddress } from "./fleet.js";
import { Keys } from "./keys.js";
import { LanesCanvas } from "./lanes_canvas.js";
import { Layers } from "./layers.js";
import { Log } from "./log.js";
import { Panel } from "./panel.js";
import { Playback } from "./playback.js";
import { TRAIL_S } from "./recent.js";
import { described, Recording } from "./recording.js";
import { Stage } from "./stage.js";
import { Stream } from "./stream.js";
import { Strip } from "./strip.js";
import { Table } from "./table.js";
import { Theme } from "./theme.js";
import { Tiles } from "./tiles.js";
import { TokenDialog } from "./token.js";
import { keyOf } from "./zones.js";
import { ZonesPanel } from "./zones_panel.js";

const MAX_WATCHED = 16;
const LARGE = { fps: 15, width: 1280 };
const TILE = { fps: 4, width: 320 };
const LABEL_MS = 1000; // between two labels for those who do not see the picture
const QUIET_EVENTS = new Set(["heartbeat"]);

class Viewer {
  constructor() {
    this.streams = new Map(); // name -> Stream
    this.stream = null; // the large one
    this.selected = -1;
    this.followed = -1;
    this.hidden = new Set();
    this.picking = null; // `swap` or `merge`, while the second track is selected
    this.mayAct = false;
    this.isConnected = false;
    this.watched = "";
    this.trails = { of: null, trails: new Map() };
    this.labelledAt = 0;
    this.addressed = streamOfAddress(location.hash); // the stream of the address, until it is shown or another one is chosen

    this.log = new Log(byId("log"));
    this.captions = new Captions(this);
    this.layers = new Layers(byId("layers"), () => this.stage.invalidate());
    this.theme = new Theme(() => this.redraw());
    const address = location.origin.replace(/^http/, "ws") + "/viewer/socket";
    this.connection = new Connection(address, this);
    const request = (method, params) => this.connection.request(method, params);
    this.corrections = new Corrections(request, this.log);
    this.playback = new Playback(request, (error) => this.played(error));
    this.tokenDialog = new TokenDialog((token) => this.connection.useToken(token));
    this.drawing = new Drawing(this);
    this.stage = new Stage(byId("picture"), this);
    this.lanes = new LanesCanvas(byId("lanes"), byId("lanes-caption"), this);
    this.fleet = new Fleet();
    this.tiles = new Tiles(byId("tiles"), byId("others"), (name) => this.choose(name));
    this.strip = new Strip(byId("strip"));
    this.table = new Table({ body: byId("table"), search: byId("search"), count: byId("track-count"),
      empty: byId("table-note"), showAll: byId("show-all") }, this);
    this.panel = new Panel(this);
    this.zonesPanel = new ZonesPanel(this);
    this.recording = new Recording(this);
    this.keys = new Keys(this);
    this.addButtons();
    document.addEventListener("visibilitychange", () => this.watch());
    addEventListener("resize", () => this.watch());
    addEventListener("hashchange", () => {
      this.addressed = streamOfAddress(location.hash);
      this.showAddressed();
    });
    this.panel.update();
    this.captions.notice();
    this.connection.open();
  }

  addButtons() {
    const click = (id, name, act) => {
      if (name !== null) byId(id).append(icon(name));
      byId(id).addEventListener("click", act);
    };
    click("theme", "theme", () => this.toggleTheme());
    click("help", "help", () => this.toggleHelp());
    click("help-close", null, () => this.toggleHelp());
    click("enter-token", null, () => this.tokenDialog.ask(""));
    click("zoom-in", "plus", () => this.zoom(1.5));
    click("zoom-out", "minus", () => this.zoom(1 / 1.5));
    click("zoom-fit", null, () => this.fit());
    click("step-back", "back", () => this.step(-1));
    click("step-forward", "forward", () => this.step(1));
    click("pause", "pause", () => this.togglePause());
    click("live", null, () => this.goLive());
    byId("scrub").addEventListener("input", (event) => this.scrub(Number(event.target.value)));
  }

  // What the connection reports.

  onState(state, text) {
    if (this.isConnected && state !== "open") this.log.add("the connection was lost", "warn");
    this.isConnected = state === "open";
    if (!this.isConnected) {
      this.watched = "";
      this.mayAct = false;
    }
    if (!this.mayAct) this.drawing.cancel();
    this.connectionState = state;
    setText(byId("state"), text);
    byId("state").dataset.state = state;
    this.captions.notice();
    this.panel?.update();
    this.zonesPanel?.update();
    this.recording?.update();
  }

  onUnauthorized(reason) {
    this.tokenDialog.ask(reason);
    setHidden(byId("enter-token"), false);
  }

  onHello({ control, version }) {
    this.mayAct = control;
    this.log.add(`connected to trackd ${version}${control ? "" : ", view only"}`);
    setHidden(byId("enter-token"), control);
    if (!control) setText(byId("state"), "connected, view only");
    for (const stream of this.streams.values()) stream.hasHistory = false; // frames may have been missed
    this.watch();
    this.panel.update();
    this.zonesPanel.update();
    this.recording.update();
  }

  onMessage(message) {
    if (message.type === "frame") this.streams.get(message.stream)?.accept(message);
    else if (message.type === "streams") this.listed(message);
    else if (message.type === "event") this.happened(message);
  }

  /** The daemon's table of streams. */
  listed({ streams: rows, stats, fleet }) {
    const open = new Set();
    for (const row of rows) {
      open.add(row.stream);
      let stream = this.streams.get(row.stream);
      if (stream === undefined) {
        stream = new Stream(row.stream, (shown) => this.shown(shown), (...change) => this.rezoned(...change));
        this.streams.set(row.stream, stream);
      }
      stream.update(row, stats?.[row.stream]);
      stream.zones.read(row, (method, params) => this.connection.request(method, params));
    }
    for (const [name, stream] of this.streams) {
      if (open.has(name)) continue;
      if (stream === this.stream && rows.length === 0) stream.close(); // its last picture stays
      else this.streams.delete(name);
    }
    this.fleet.update(fleet);
    this.showAddressed();
    if (this.stream === null || !this.streams.has(this.stream.name) || (!this.stream.isOpen && rows.length > 0)) {
      this.select(rows[0]?.stream ?? null);
    }
    this.tiles.update(this.streams, this.stream?.name, this.fleet.hasRows);
    this.stream?.readHistory((method, params) => this.connection.request(method, params));
    this.strip.update(this.stream);
    this.recording.update();
    this.watch();
    this.captions.titles();
    this.captions.notice();
    this.updatePlayback();
  }

  /** An event of a stream. */
  happened({ stream: name, epoch, last_seq: lastSeq, event, detail }) {
    if (QUIET_EVENTS.has(event)) return;
    const stream = this.streams.get(name);
    if (event === "corrected") {
      stream?.corrected(lastSeq, detail);
      this.corrections.announced(name, epoch, detail);
      if (stream === this.stream && detail.tracks?.[0] === this.selected) {
        const next = detail.action === "merge" ? detail.into : detail.action === "new_id" ? detail.new_id : undefined;
        if (next !== undefined && next !== null) this.pick(next);
      }
      this.lanes.invalidate();
      this.table.invalidate();
      return;
    }
    if (event === "zones") {
      stream?.zones.take(detail, epoch);
      return;
    }
    if (event === "identity") {
      this.log.add(`${name}: ${identityText(detail)}`, detail.event === "swap_suspected" ? "warn" : "good");
      return;
    }
    if (event === "recording") {
      this.log.add(`${name}: ${described(detail)}`, detail.reason ? "bad" : "good");
      return;
    }
    const reason = detail?.reason ? `: ${detail.reason}` : "";
    this.log.add(`${name}: ${event}${reason}`, event === "reset" ? "warn" : "");
    if (event === "reset" && stream === this.stream) this.forget();
  }

  /** The zones and lines of a stream have changed. */
  rezoned(stream, said, author) {
    const by = author && author !== "viewer" ? ` (${author})` : "";
    for (const line of said) this.log.add(`${stream.name}: ${line}${by}`, "good");
    if (stream === this.stream) this.drawn();
  }

  // What is seen.

  /** Another frame of a stream can be drawn. */
  shown(stream) {
    this.tiles.invalidate(stream, this.theme.scheme);
    if (stream !== this.stream) return;
    this.lanes.invalidate();
    this.table.invalidate();
    if (this.playback.isPaused) return;
    this.redrawStage();
  }

  redrawStage() {
    this.stage.invalidate();
    this.captions.frame();
    this.relabel();
    this.updatePlayback();
    this.panel.update();
    this.captions.notice();
  }

  /** Say which frame is shown, and offer its layers; at most once a second. */
  relabel() {
    if (performance.now() - this.labelledAt < LABEL_MS) return;
    this.labelledAt = performance.now();
    this.captions.label();
    this.layers.offer(this.settlement, this.stream?.bitmap);
  }

  redraw() {
    if (this.stage === undefined) return;
    this.redrawStage();
    this.lanes.invalidate();
    this.table.invalidate();
    this.strip.update(this.stream);
    for (const stream of this.streams.values()) this.tiles.invalidate(stream, this.theme.scheme);
  }

  /** The settlement that is drawn now. */
  get settlement() {
    return (this.playback.isPaused ? this.playback.settlement : null) ?? this.stream?.shown ?? null;
  }

  /** The colours of the picture are those for dark grounds in both themes; a swatch has the colour that is drawn. */
  get swatchScheme() {
    const bitmap = this.playback.isPaused ? this.playback.bitmap : this.stream?.bitmap;
    return bitmap && this.layers.shown.picture ? "dark" : this.theme.scheme;
  }

  scene() {
    const { stream, playback, settlement } = this;
    const isPast = playback.isPaused && playback.settlement !== null;
    if (!isPast && this.trails.of !== settlement) {
      const items = stream?.recent.items ?? [];
      const isLast = settlement !== null && items.at(-1) === settlement;
      this.trails = { of: settlement, trails: isLast ? stream.trails(items, items.length - 1, TRAIL_S) : new Map() };
    }
    const row = settlement?.rowOf(this.followed) ?? -1;
    return {
      settlement,
      bitmap: isPast ? playback.bitmap : (stream?.bitmap ?? null),
      area: stream?.areaOf(settlement) ?? [640, 480],
      layers: this.layers.shown,
      scheme: this.theme.scheme,
      trails: isPast ? playback.trails : this.trails.trails,
      skeleton: stream?.skeleton ?? null,
      places: this.drawing.shown,
      draft: this.drawing.draft,
      selected: this.selected,
      following: this.followed >= 0 && row >= 0 ? [settlement.centreX(row), settlement.centreY(row)] : null,
      isHidden: (id) => this.hidden.has(id),
      isDimmed: (at) => !this.table.matches(settlement.ids[at], settlement.nameOf(at)),
    };
  }

  lanesScene() {
    const items = this.stream?.recent.items ?? [];
    const [first, last] = [items[0], items.at(-1)];
    const frames = (last?.seq ?? 0) - (first?.seq ?? 0);
    const seconds = frames > 0 ? (last.seconds - first.seconds) / frames : 0;
    return {
      lanes: this.stream?.lanes ?? null,
      scheme: this.theme.scheme,
      cursor: this.settlement?.seq ?? -1,
      selected: this.selected,
      seconds: seconds > 1e-5 && seconds < 3600 ? seconds : 0,
      isPaused: this.playback.isPaused,
    };
  }

  tableScene() {
    const { seconds } = this.lanesScene();
    const { stream } = this;
    return {
      settlement: this.settlement,
      lanes: stream?.lanes ?? null,
      hidden: this.hidden,
      selected: this.selected,
      scheme: this.swatchScheme,
      secondsOf: (seq) => {
        const frames = stream.lanes.last - seq + 1;
        return seconds > 0 ? `${(frames * seconds).toFixed(1)} s` : `${frames} frames`;
      },
    };
  }

  panelScene() {
    const { settlement, selected: id } = this;
    const row = id >= 0 ? (settlement?.rowOf(id) ?? -1) : -1;
    const lane = this.stream?.lanes.lanes.get(id);
    const score = row >= 0 ? settlement.trackScores[row] : NaN;
    return {
      id,
      name: row >= 0 ? settlement.nameOf(row) : (lane?.name ?? null),
      state: row >= 0 ? settlement.stateOf(row) : settlement?.isMerged(id) ? "merged"
        : lane?.ended ? "ended" : lane ? "lost" : "not in this frame",
      score: score === score ? score.toFixed(2) : "",
      isFollowed: id >= 0 && this.followed === id,
      isHidden: this.hidden.has(id),
      partners: partnersOf(settlement, this.stream?.lanes.lanes ?? new Map(), id),
      mayAct: this.mayAct && this.stream !== null,
      picking: this.picking,
      isPaused: this.playback.isPaused,
      scheme: this.swatchScheme,
    };
  }

  updatePlayback() {
    const { playback, stream } = this;
    const scrub = byId("scrub");
    const newest = playback.isPaused ? playback.newest : (stream?.shown?.seq ?? 1);
    const oldest = playback.isPaused ? playback.oldest : Math.max(0, newest - 1000);
    scrub.min = oldest;
    scrub.max = Math.max(oldest + 1, newest);
    scrub.value = playback.isPaused ? playback.wanted : newest;
    const { settlement } = this;
    scrub.setAttribute("aria-valuetext", settlement === null ? "no frame" : `frame ${settlement.frameIndex}`);
    if (this.pausedShown !== playback.isPaused) {
      this.pausedShown = playback.isPaused;
      byId("pause").replaceChildren(icon(playback.isPaused ? "play" : "pause"));
      byId("pause").setAttribute("aria-label", playback.isPaused ? "Back to live" : "Pause");
      byId("live").setAttribute("aria-pressed", String(!playback.isPaused));
    }
  }

  watch() {
    if (!this.isConnected) return;
    const streams = {};
    if (!document.hidden) {
      const others = [...this.streams.keys()].filter((name) => name !== this.stream?.name);
      if (this.stream !== null) {
        const longest = Math.max(this.stage.view.width, this.stage.view.height) * this.stage.ratio;
        const width = Math.min(LARGE.width, Math.max(320, 160 * Math.ceil(longest / 160)));
        streams[this.stream.name] = { fps: LARGE.fps, width, image: true };
      }
      for (const name of others.slice(0, MAX_WATCHED - 1)) streams[name] = { ...TILE, image: true };
    }
    const wanted = JSON.stringify(streams);
    if (wanted === this.watched) return;
    this.watched = wanted;
    this.connection.watch(streams);
  }

  // What the user does.

  /** Show a stream large. */
  select(name) {
    const stream = this.streams.get(name) ?? null;
    if (stream === this.stream) return;
    this.playback.live();
    this.stream = stream;
    this.forget();
    this.drawing.cancel();
    this.drawing.select(null);
    this.recording.update();
    this.stage.view.reset(true);
    this.stage.zoomed();
    this.labelledAt = 0;
    this.tiles.update(this.streams, name, this.fleet.hasRows);
    stream?.readHistory((method, params) => this.connection.request(method, params));
    this.watch();
    this.captions.titles();
    this.redraw();
  }

  /** Show the stream that the user has chosen. */
  choose(name) {
    this.addressed = null;
    this.select(name);
  }

  /** Show the stream that the address names, once it is open. */
  showAddressed() {
    if (this.addressed !== null && this.streams.has(this.addressed)) this.choose(this.addressed);
  }

  selectStream(direction) {
    const names = [...this.streams.keys()];
    if (names.length < 2) return;
    this.choose(names[(names.indexOf(this.stream?.name) + direction + names.length) % names.length]);
  }

  /** Ids mean other tracks now. */
  forget() {
    this.hidden.clear();
    this.selected = this.followed = -1;
    this.picking = null;
    if (this.playback.isPaused) this.goLive();
  }

  /** Select a track, or the second one of a pair; -1 selects nothing. */
  pick(id) {
    if (this.picking !== null && id >= 0 && id !== this.selected) {
      const action = this.picking;
      this.picking = null;
      this.pair(action, id);
    } else if (this.picking === null) {
      if (this.followed >= 0) this.followed = id;
      this.selected = id;
    }
    this.table.update();
    this.redrawStage();
    this.lanes.invalidate();
  }

  /** A click on the picture: a corner of what is drawn, else a track, else a zone or line. */
  clicked(x, y) {
    if (this.drawing.kind !== null) {
      if (this.drawing.isDrawing) this.drawing.click(x, y);
      return;
    }
    const id = this.stage.idAt(x, y);
    if (id < 0 && !this.isPicking && this.layers.shown.zones) {
      const place = this.drawing.placeAt(x, y, true);
      this.drawing.select(place === null ? null : keyOf(place));
    }
    this.pick(id);
  }

  get isPicking() {
    return this.picking !== null;
  }

  pickSecond(action) {
    if (action !== null && this.selected < 0) return;
    this.picking = action;
    this.redrawStage();
  }

  pair(action, other) {
    if (action === "swap") this.correct("swap", { tracks: [this.selected, other] });
    else this.correct("merge", { track: this.selected, into: other });
  }

  correct(action, params) {
    if (!this.mayAct || this.stream === null) return;
    this.corrections.send(this.stream.name, action, params);
  }

  correctSelected(action) {
    if (this.selected >= 0) this.correct(action, { track: this.selected });
  }

  /** The zones and lines of the large stream. */
  get zones() {
    return this.stream?.zones ?? null;
  }

  /** Begin to draw a zone or a line. */
  drawPlace(kind, name = "") {
    if (!this.mayAct || this.stream === null) return;
    this.layers.set("zones", true);
    this.stopFollowing();
    this.drawing.start(kind, name);
    byId("picture").focus();
  }

  cancelDrawing() {
    this.drawing.cancel();
    this.drawingEnded();
  }

  /** The keys mean what they did before. */
  drawingEnded() {
    this.drawn();
    byId("picture").focus();
  }

  /** Zones and lines look different now, or what is drawn of a new one. */
  drawn() {
    byId("picture").classList.toggle("drawing", this.drawing.kind !== null || (this.mayAct && this.drawing.place !== null));
    this.zonesPanel?.update();
    this.stage.invalidate();
  }

  selectPlace() {
    this.drawing.selectNext();
  }

  deletePlace() {
    this.drawing.remove();
  }

  /** Change the zones and lines of the large stream; true if the daemon has taken the change. */
  async editPlaces(change) {
    const { stream } = this;
    if (!this.mayAct || stream === null) return false;
    try {
      await stream.zones.edit((method, params) => this.connection.request(method, params), change);
      return true;
    } catch (error) {
      this.log.add(`${stream.name}: the zones are not changed: ${error.message}`, "bad");
      return false;
    }
  }

  async reset() {
    const { name } = this.stream;
    try {
      await this.connection.request("stream.reset", { stream: name });
    } catch (error) {
      this.log.add(`${name}: reset failed: ${error.message}`, "bad");
    }
  }

  cancel() {
    if (this.picking !== null) this.pickSecond(null);
    else {
      this.pick(-1);
      this.drawing.select(null);
    }
  }

  selectNext(direction) {
    const ids = [...(this.settlement?.ids ?? [])].filter((id) => id >= 0).sort((a, b) => a - b);
    if (ids.length === 0) return;
    const at = ids.indexOf(this.selected);
    this.pick(at < 0 ? ids[direction > 0 ? 0 : ids.length - 1] : ids[(at + direction + ids.length) % ids.length]);
  }

  toggleFollow() {
    if (this.selected < 0) return;
    if (this.followed === this.selected) {
      this.fit();
      return;
    }
    this.followed = this.selected;
    const row = this.settlement?.rowOf(this.followed) ?? -1;
    if (row >= 0) this.stage.view.follow(this.settlement.centreX(row), this.settlement.centreY(row), true);
    this.stage.zoomed();
    this.redrawStage();
  }

  stopFollowing() {
    this.followed = -1;
    this.panel.update();
  }

  toggleHidden(id = this.selected) {
    if (id < 0) return;
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.redrawStage();
    this.table.update();
  }

  showAllTracks() {
    this.hidden.clear();
    this.redrawStage();
    this.table.update();
  }

  searched() {
    this.stage.invalidate();
  }

  focusSearch() {
    byId("search").focus();
  }

  focusName() {
    this.panel.focusName();
  }

  toggleLayer(name) {
    this.layers.toggle(name);
  }

  zoom(factor) {
    this.stage.zoom(factor);
  }

  onZoom(zoom) {
    setText(byId("zoom-fit"), `${Math.round(100 * zoom)} %`);
  }

  fit() {
    this.stage.fit();
  }

  toggleTheme() {
    this.theme.toggle();
  }

  toggleHelp() {
    const dialog = byId("help-dialog");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  }

  togglePause() {
    if (this.playback.isPaused) this.goLive();
    else if (this.stream !== null) this.playback.pause(this.stream);
    this.redrawStage();
    this.lanes.invalidate();
  }

  step(count) {
    if (!this.playback.isPaused) this.togglePause();
    this.playback.step(count);
  }

  scrub(seq) {
    if (!this.playback.isPaused) this.togglePause();
    this.playback.show(seq);
  }

  goLive() {
    this.playback.live();
    this.redrawStage();
    this.lanes.invalidate();
  }

  /** The playback shows another frame, or says why it cannot. */
  played(error) {
    if (error) this.log.add(error, "warn");
    this.redrawStage();
    this.lanes.invalidate();
    this.table.invalidate();
  }

  /** What is drawn, for tests and scripts. */
  get state() {
    const settlement = this.stage.drawnSettlement;
    return {
      connection: this.connectionState,
      mayAct: this.mayAct,
      stream: settlement?.stream ?? null,
      epoch: settlement?.epoch ?? null,
      seq: settlement?.seq ?? null,
      frameIndex: settlement?.frameIndex ?? null,
      isPaused: this.playback.isPaused,
      hasPicture: this.stage.drawnPicture,
      selected: this.selected,
      drawings: this.stage.count,
      view: { left: this.stage.view.left, top: this.stage.view.top, scale: this.stage.view.scale },
      tracks: this.stage.drawn.map((track) => ({ ...track })),
      places: this.stage.drawnPlaces.map((place) => ({ ...place })),
      drawing: { kind: this.drawing.kind, points: this.drawing.points, isComplete: this.drawing.isComplete },
    };
  }
}

const viewer = new Viewer();
window.trackdViewer = Object.freeze({
  get state() {
    return viewer.state;
  },
  measure: (drawings) => viewer.stage.measure(drawings),
});
