// SPDX-License-Identifier: MIT
// The browser's clipboard and the machine's: each offers what was copied, data follows when somebody pastes.

const TEXT = 'text/plain';
const WANTED = [TEXT, 'text/html', 'image/png'];

export class Clipboard {
  #channel;
  #allowed;
  #show;
  #mine = new Map(); // what this side has copied: media type → Blob
  #last = ''; // so that what came from the machine does not go back to it
  #pending = null; // the machine's offer that the browser did not take yet

  // `show(text, note)` fills the panel, for browsers that keep their clipboard to themselves.
  constructor(channel, allowed, show) {
    this.#channel = channel;
    this.#allowed = allowed;
    this.#show = show;
    channel.addEventListener('offer', ({ detail }) => this.#offered(detail.types));
    channel.addEventListener('read', ({ detail }) => channel.sendClipboard(detail.id, this.#mine.get(detail.media) ?? null));
  }

  // The window has the focus, or a shortcut begins: bring both sides up to date.
  async sync() {
    if (this.#pending) await this.#write(this.#pending);
    if (!this.#allowed.to_guest || !document.hasFocus()) return;
    try {
      await this.#take(await navigator.clipboard.read());
    } catch {
      this.#show(null, 'The browser does not let this page read the clipboard: paste here, and it goes to the machine.');
    }
  }

  // What a person pasted into the panel.
  async pasted(data) {
    const found = new Map();
    for (const type of WANTED) {
      const text = type.startsWith('text/') ? data.getData(type) : '';
      if (text) found.set(type, new Blob([text], { type }));
    }
    for (const file of data.files) if (file.type === 'image/png') found.set(file.type, file);
    this.#offer(found);
  }

  typed(text) {
    this.#offer(new Map([[TEXT, new Blob([text], { type: TEXT })]]));
  }

  async #take(items) {
    const found = new Map();
    for (const item of items) {
      for (const type of item.types) if (WANTED.includes(type)) found.set(type, await item.getType(type));
    }
    const mark = await fingerprint(found);
    if (found.size === 0 || mark === this.#last) return;
    this.#last = mark;
    this.#offer(found);
  }

  #offer(found) {
    if (!this.#allowed.to_guest) return;
    this.#mine = found;
    this.#channel.send('offer', { types: [...found.keys()] });
  }

  async #offered(types) {
    if (!this.#allowed.to_host) return;
    this.#pending = types.filter((type) => WANTED.includes(type));
    if (this.#pending.length && document.hasFocus()) await this.#write(this.#pending);
  }

  async #write(types) {
    this.#pending = null;
    const found = new Map();
    for (const type of types) {
      try {
        found.set(type, new Blob(await this.#channel.read(type), { type }));
      } catch {
        // The machine copied something else meanwhile: its next offer says so.
      }
    }
    if (found.size === 0) return;
    this.#show((await found.get(TEXT)?.text()) ?? '', '');
    this.#last = await fingerprint(found);
    try {
      await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(found))]);
    } catch {
      this.#show(null, 'The browser does not let this page write the clipboard: copy it from here.');
    }
  }
}

async function fingerprint(found) {
  const text = await (found.get(TEXT)?.text() ?? '');
  return [...found].filter(([type]) => type !== 'text/html').map(([type, blob]) => `${type} ${blob.size}`).join() + text;
}
