// SPDX-License-Identifier: MIT
// Fingers on the picture go to the machine's touch screen, each in a slot of its own, instead of becoming gestures.

const SLOTS = 10;
const MAX = 32767;

export class Touch {
  #slots = new Map(); // Touch.identifier → slot
  enabled = true;

  constructor(screen, canvas, channel) {
    const on = (event) => {
      if (!this.enabled) return;
      event.preventDefault();
      event.stopPropagation();
      const box = canvas().getBoundingClientRect();
      const points = [...event.changedTouches].map((touch) => this.#point(event.type, touch, box)).filter(Boolean);
      if (points.length) channel().send('touch', { points });
    };
    for (const type of ['touchstart', 'touchmove', 'touchend', 'touchcancel']) {
      screen.addEventListener(type, on, { capture: true, passive: false });
    }
  }

  // Begin anew: the machine has lifted all fingers.
  reset() {
    this.#slots.clear();
  }

  #point(type, touch, box) {
    let phase = 'update';
    let slot = this.#slots.get(touch.identifier);
    if (type === 'touchstart') {
      const taken = new Set(this.#slots.values());
      slot = [...Array(SLOTS).keys()].find((free) => !taken.has(free));
      if (slot === undefined) return null;
      this.#slots.set(touch.identifier, slot);
      phase = 'begin';
    } else if (slot === undefined) {
      return null;
    } else if (type !== 'touchmove') {
      this.#slots.delete(touch.identifier);
      phase = 'end';
    }
    const place = (at, start, size) => Math.round((Math.min(Math.max(at - start, 0), size) / size) * MAX);
    return { phase, slot, x: place(touch.clientX, box.left, box.width), y: place(touch.clientY, box.top, box.height) };
  }
}
