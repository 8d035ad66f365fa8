/** The page's WebSocket: it says hello, sends requests, and connects again after a failure. */

import { decode, encode } from "./msgpack.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;
const UNAUTHORIZED = 4401; // the daemon's close code for a missing or wrong token
const MAX_OUTSTANDING = 12; // the daemon allows 16

export class RequestError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Connection {
  /**
   * @param {string} url of the socket
   * @param {object} listener has `onState(state, text)`, `onHello(message)`, `onMessage(message)` and `onUnauthorized(reason)`;
   *   a state is `connecting`, `open`, `waiting` or `refused`
   */
  constructor(url, listener) {
    this.url = url;
    this.listener = listener;
    this.token = null; // in memory only
    this.socket = null;
    this.greeted = false;
    this.waitMs = FIRST_WAIT_MS;
    this.timer = 0;
    this.nextId = 1;
    this.pending = new Map(); // id -> [resolve, reject]
    this.queued = []; // requests beyond the daemon's limit
    this.reason = "";
    addEventListener("online", () => this.retry());
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    this.reason = "";
    this.listener.onState("connecting", "connecting");
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send({ type: "hello", token: this.token });
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.closed(event);
    this.socket = socket;
  }

  /** Connect with a token. */
  useToken(token) {
    this.token = token;
    this.waitMs = FIRST_WAIT_MS;
    this.open();
  }

  retry() {
    if (!this.greeted) this.open();
  }

  /** Forget the present socket, if there is one; its late events no longer count. */
  drop() {
    const socket = this.socket;
    this.socket = null;
    this.greeted = false;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const lost = [...this.pending.values(), ...this.queued.map((entry) => entry.settle)];
    this.pending.clear();
    this.queued = [];
    for (const [, reject] of lost) reject(new RequestError("disconnected", "the connection was lost; try again"));
  }

  closed(event) {
    this.drop();
    if (event.code === UNAUTHORIZED) {
      this.listener.onState("refused", "token needed");
      this.listener.onUnauthorized(this.token === null ? "" : this.reason || "the daemon refused the token");
      return;
    }
    const waitMs = this.waitMs * (0.75 + 0.5 * Math.random());
    this.waitMs = Math.min(LONGEST_WAIT_MS, 1.7 * this.waitMs);
    const why = this.reason || event.reason;
    this.listener.onState("waiting", why ? `refused: ${why}` : "no connection, trying again");
    this.timer = setTimeout(() => this.open(), waitMs);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encode(message));
  }

  receive(data) {
    let message;
    try {
      message = decode(data);
    } catch (error) {
      this.listener.onState("open", `a message could not be read: ${error.message}`);
      return;
    }
    if (message.type === "reply") {
      this.settle(message);
    } else if (message.type === "refused") {
      this.reason = message.reason;
    } else if (message.type === "hello") {
      this.greeted = true;
      this.waitMs = FIRST_WAIT_MS;
      this.listener.onState("open", "connected");
      this.listener.onHello(message);
    } else {
      this.listener.onMessage(message);
    }
  }

  watch(streams) {
    if (this.greeted) this.send({ type: "watch", streams });
  }

  /** Send a request. The promise is rejected with a RequestError. */
  request(method, params) {
    return new Promise((resolve, reject) => {
      if (!this.greeted) {
        reject(new RequestError("disconnected", "there is no connection to the daemon"));
        return;
      }
      this.queued.push({ method, params, settle: [resolve, reject] });
      this.sendQueued();
    });
  }

  sendQueued() {
    while (this.queued.length > 0 && this.pending.size < MAX_OUTSTANDING) {
      const { method, params, settle } = this.queued.shift();
      const id = this.nextId++;
      this.pending.set(id, settle);
      this.send({ type: "request", id, method, params });
    }
  }

  settle(message) {
    const [resolve, reject] = this.pending.get(message.id) ?? [];
    this.pending.delete(message.id);
    if (message.error) reject?.(new RequestError(message.error.code, message.error.message));
    else resolve?.(message.result);
    this.sendQueued();
  }
}
