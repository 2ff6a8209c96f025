// SPDX-License-Identifier: MIT
// Keys that the browser or the desktop around it keeps for itself, as buttons. [keysym, KeyboardEvent.code]

const CTRL = [0xffe3, 'ControlLeft'];
const ALT = [0xffe9, 'AltLeft'];
const SUPER = [0xffeb, 'MetaLeft'];
const F = (number) => [0xffbd + number, `F${number}`];
const LETTER = (letter) => [letter.charCodeAt(0), `Key${letter.toUpperCase()}`];

export const COMBINATIONS = [
  ['Ctrl+Alt+Del', [CTRL, ALT, [0xffff, 'Delete']]],
  ['Super', [SUPER]],
  ['Alt+Tab', [ALT, [0xff09, 'Tab']]],
  ['Alt+F4', [ALT, F(4)]],
  ['Ctrl+W', [CTRL, LETTER('w')]],
  ['Ctrl+T', [CTRL, LETTER('t')]],
  ['Ctrl+N', [CTRL, LETTER('n')]],
  ['F11', [F(11)]],
  ['Esc', [[0xff1b, 'Escape']]],
  ['Print', [[0xff61, 'PrintScreen']]],
  ['Ctrl+Alt+F1', [CTRL, ALT, F(1)]],
  ['Ctrl+Alt+F2', [CTRL, ALT, F(2)]],
];

export function press(rfb, keys) {
  for (const [keysym, code] of keys) rfb.sendKey(keysym, code, true);
  for (const [keysym, code] of keys.toReversed()) rfb.sendKey(keysym, code, false);
}
