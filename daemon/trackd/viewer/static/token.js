/** The dialog that asks for the token. The token is never stored. */

import { byId, setText } from "./dom.js";

export class TokenDialog {
  constructor(onToken) {
    this.dialog = byId("token-dialog");
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value;
      byId("token").value = "";
      this.dialog.close();
      onToken(token);
    });
    byId("token-cancel").addEventListener("click", () => this.dialog.close());
  }

  ask(reason) {
    setText(byId("token-reason"), reason);
    if (!this.dialog.open) this.dialog.showModal();
  }
}
