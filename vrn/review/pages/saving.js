// Sends marks to the server, in order, until it says that they are on disk.

const AGAIN = 1000; // ms after a failure

export class Saver {
  // `changed(waiting, failure)` is called whenever either changes.
  constructor(csrf, changed) {
    this.csrf = csrf;
    this.changed = changed;
    this.waiting = []; // marks not yet known to be on disk
    this.sending = false;
    this.failure = "";
    window.addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
  }

  add(entries) {
    this.waiting.push(...entries);
    this.changed(this.waiting.length, this.failure);
    if (!this.sending) this.send();
  }

  async send() {
    this.sending = true;
    while (this.waiting.length) {
      const entries = this.waiting.slice(0, 500);
      const request = hex(16); // the same at every try, so that nothing is saved twice
      while (!(await this.try(request, entries))) {
        this.changed(this.waiting.length, this.failure);
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
      this.waiting.splice(0, entries.length);
      this.failure = "";
      this.changed(this.waiting.length, "");
    }
    this.sending = false;
  }

  async try(request, entries) {
    try {
      const answer = await fetch("api/labels", {
        method: "POST",
        headers: { "content-type": "application/json", "x-csrf-token": this.csrf },
        body: JSON.stringify({ request, entries }),
      });
      if (answer.ok && (await answer.json()).saved === entries.length) return true;
      this.failure = answer.status < 500 ? "refused, load the page again" : "the server failed";
    } catch {
      this.failure = "no answer from the server";
    }
    return false;
  }
}

function hex(bytes) {
  const drawn = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(drawn, (one) => one.toString(16).padStart(2, "0")).join("");
}
