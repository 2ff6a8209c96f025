// SPDX-License-Identifier: MIT
// Files for the machine, in pieces that it asks for, so that neither side holds more than a few of them.

import { CHUNK } from './channel.js';

export class Files {
  #channel;
  #list;
  #active = new Map(); // id → transfer

  constructor(channel, list) {
    this.#channel = channel;
    this.#list = list;
    channel.addEventListener('credit', ({ detail }) => this.#active.get(detail.id)?.more(detail.bytes));
    channel.addEventListener('ended', ({ detail }) => {
      this.#active.get(detail.id)?.ended(detail.state, detail.detail);
      this.#active.delete(detail.id);
    });
    channel.addEventListener('close', () => {
      for (const transfer of this.#active.values()) transfer.ended('failed', 'the machine is gone');
      this.#active.clear();
    });
  }

  send(files) {
    for (const file of files) {
      const id = this.#channel.newId();
      this.#active.set(id, new Transfer(id, file, this.#channel, this.#list));
      this.#channel.send('file', { id, name: file.name, size: file.size });
    }
  }
}

class Transfer {
  #sent = 0;
  #credit = 0;
  #busy = false;
  #over = false;

  constructor(id, file, channel, list) {
    this.id = id;
    this.file = file;
    this.channel = channel;
    this.row = document.createElement('div');
    this.label = document.createElement('span');
    this.label.textContent = file.name;
    this.progress = document.createElement('progress');
    this.progress.max = Math.max(file.size, 1);
    this.progress.value = 0;
    const cancel = document.createElement('button');
    cancel.type = 'button';
    cancel.textContent = '✕';
    cancel.title = 'Stop copying';
    cancel.onclick = () => (this.#over ? this.row.remove() : channel.send('cancel', { id }));
    this.row.append(this.label, ' ', cancel, this.progress);
    list.append(this.row);
  }

  more(bytes) {
    this.#credit += bytes;
    this.#pump();
  }

  ended(state, detail) {
    this.#over = true;
    this.row.dataset.state = state;
    this.label.textContent = `${this.file.name}: ${{ done: 'copied', cancelled: 'stopped' }[state] ?? detail}`;
    this.progress.remove();
    if (state === 'done') setTimeout(() => this.row.remove(), 8000);
  }

  async #pump() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (!this.#over && this.#credit > 0 && this.#sent < this.file.size) {
        const part = this.file.slice(this.#sent, this.#sent + Math.min(CHUNK, this.#credit));
        this.channel.sendFileChunk(this.id, new Uint8Array(await part.arrayBuffer()));
        this.#sent += part.size;
        this.#credit -= part.size;
        this.progress.value = this.#sent;
      }
    } catch {
      this.channel.send('cancel', { id: this.id }); // the file changed or went away under our hands
    } finally {
      this.#busy = false;
    }
  }
}
