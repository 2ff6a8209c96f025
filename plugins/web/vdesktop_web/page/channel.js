// SPDX-License-Identifier: MIT
// What is neither picture, key nor mouse: fingers, clipboards, files, figures. The messages are those of channel.py.

const CLIPBOARD = 1;
const FILE = 2;
const LAST = 1;
const FAILED = 2;
const HEADER = 8;
export const CHUNK = 64 * 1024;

export class Channel extends EventTarget {
  #socket;
  #reads = new Map(); // id → {chunks, resolve, reject}
  #nextId = 1;

  constructor(url) {
    super();
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onmessage = ({ data }) => (typeof data === 'string' ? this.#text(JSON.parse(data)) : this.#binary(data));
    this.#socket.onclose = () => {
      for (const { reject } of this.#reads.values()) reject(new Error('the machine is gone'));
      this.#reads.clear();
      this.#emit('close');
    };
  }

  send(type, fields = {}) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, ...fields }));
  }

  newId() {
    return this.#nextId++;
  }

  // The guest's clipboard as one media type.
  read(media) {
    const id = this.newId();
    return new Promise((resolve, reject) => {
      this.#reads.set(id, { chunks: [], resolve, reject });
      this.send('read', { id, media });
    });
  }

  sendClipboard(id, blob) {
    if (blob === null) this.#frame(CLIPBOARD, FAILED | LAST, id, new Uint8Array());
    else this.#chunks(CLIPBOARD, id, blob);
  }

  sendFileChunk(id, bytes) {
    this.#frame(FILE, 0, id, bytes);
  }

  close() {
    this.#socket.close();
  }

  async #chunks(kind, id, blob) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let at = 0;
    do {
      const part = bytes.subarray(at, at + CHUNK);
      at += part.length;
      this.#frame(kind, at >= bytes.length ? LAST : 0, id, part);
    } while (at < bytes.length);
  }

  #frame(kind, flags, id, bytes) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const message = new Uint8Array(HEADER + bytes.length);
    const view = new DataView(message.buffer);
    view.setUint8(0, kind);
    view.setUint8(1, flags);
    view.setUint32(4, id, true);
    message.set(bytes, HEADER);
    this.#socket.send(message);
  }

  #text(message) {
    this.#emit(message.type, message);
  }

  #binary(buffer) {
    const view = new DataView(buffer);
    const reading = this.#reads.get(view.getUint32(4, true));
    if (view.getUint8(0) !== CLIPBOARD || !reading) return;
    const flags = view.getUint8(1);
    reading.chunks.push(new Uint8Array(buffer, HEADER));
    if (!(flags & LAST)) return;
    this.#reads.delete(view.getUint32(4, true));
    if (flags & FAILED) reading.reject(new Error('the machine no longer has it'));
    else reading.resolve(reading.chunks);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
