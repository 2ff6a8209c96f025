// SPDX-License-Identifier: MIT
// The page: noVNC for picture, keyboard and mouse; the channel for all else; connects again by itself.

import RFB from './novnc/core/rfb.js';
import { Channel } from './channel.js';
import { Clipboard } from './clipboard.js';
import { Files } from './files.js';
import { COMBINATIONS, press } from './keys.js';
import { Touch } from './touch.js';

const RETRY_FIRST = 500; // milliseconds
const RETRY_MOST = 8000;

const $ = (id) => document.getElementById(id);
const screen = $('screen');
const address = (path) => new URL(path, location.href).href.replace(/^http/, 'ws');

let rfb = null;
let channel = null;
let clipboard = null;
let files = null;
let retry = RETRY_FIRST;
let connected = false;

const touch = new Touch(screen, () => screen.querySelector('canvas'), () => channel);
touch.enabled = false;

function notice(text) {
  $('notice').textContent = text;
  $('notice').hidden = !text;
}

function connect() {
  channel = new Channel(address('channel'));
  channel.addEventListener('hello', ({ detail }) => {
    hello(detail);
    look(detail.channel);
  });
  channel.addEventListener('status', ({ detail }) => status(detail));
  channel.addEventListener('close', again);
}

function look(number) {
  rfb = new RFB(screen, address(`rfb/${number}`), { shared: true });
  rfb.background = '#101418';
  follow();
  rfb.addEventListener('connect', () => {
    connected = true;
    retry = RETRY_FIRST;
    document.body.dataset.connected = 'yes';
    notice('');
    rfb?.focus();
  });
  rfb.addEventListener('disconnect', () => channel.close());
}

// The channel is closed: the machine has ended, or something on the way has.
function again() {
  delete document.body.dataset.connected;
  $('status').textContent = '';
  if (connected) notice('The machine has ended or is out of reach. Connecting again…');
  connected = false;
  rfb?.disconnect();
  rfb = null;
  setTimeout(connect, retry);
  retry = Math.min(retry * 2, RETRY_MOST);
}

function hello(machine) {
  $('name').textContent = machine.machine;
  document.title = machine.machine;
  const { to_guest, to_host } = machine;
  touch.reset();
  $('fingers').hidden = !machine.touch;
  touch.enabled = machine.touch && $('fingers').ariaPressed === 'true';
  $('clip').hidden = !(to_guest || to_host);
  $('send-file').hidden = !machine.files;
  clipboard = new Clipboard(channel, { to_guest, to_host }, (text, note) => {
    if (text !== null) $('clip-text').value = text;
    $('clip-note').textContent = note;
  });
  files = machine.files ? new Files(channel, $('transfers')) : null;
}

function status({ frames, bytes, viewers }) {
  const { width, height } = screen.querySelector('canvas') ?? { width: 0, height: 0 };
  const rate = bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB/s` : `${Math.round(bytes / 1e3)} kB/s`;
  const others = viewers > 1 ? ` · ${viewers} viewers` : '';
  $('status').textContent = `${width}×${height} · ${frames} frames/s · ${rate}${others}`;
}

// The machine's screen follows the window, or the picture is scaled to it.
function follow() {
  if (!rfb) return;
  const on = $('fit').ariaPressed === 'true';
  rfb.resizeSession = on;
  rfb.scaleViewport = !on;
}

function toggle(button, changed) {
  button.addEventListener('click', () => {
    button.ariaPressed = button.ariaPressed === 'true' ? 'false' : 'true';
    changed(button.ariaPressed === 'true');
    rfb?.focus();
  });
}

toggle($('fit'), follow);
toggle($('fingers'), (on) => (touch.enabled = on));

$('fullscreen').addEventListener('click', async () => {
  if (document.fullscreenElement) {
    await document.exitFullscreen();
    return;
  }
  await document.documentElement.requestFullscreen();
  // Where the browser can: Alt+Tab, Ctrl+W, Escape and the like go to the machine, too.
  await navigator.keyboard?.lock?.().catch(() => {});
  rfb?.focus();
});

for (const [label, keys] of COMBINATIONS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = label;
  button.setAttribute('role', 'menuitem');
  button.addEventListener('click', () => {
    if (rfb) press(rfb, keys);
    $('keys').open = false;
    rfb?.focus();
  });
  $('keys').querySelector('div').append(button);
}

// The panel's own keys are not the machine's: noVNC listens on its canvas only.
$('clip-text').addEventListener('paste', ({ clipboardData }) => clipboard?.pasted(clipboardData));
$('clip-text').addEventListener('change', ({ target }) => clipboard?.typed(target.value));
for (const type of ['focus', 'pageshow']) window.addEventListener(type, () => clipboard?.sync());
screen.addEventListener('pointerenter', () => clipboard?.sync());
// Before the V of Ctrl+V arrives, the machine has heard what there is to paste.
screen.addEventListener(
  'keydown',
  ({ key, repeat }) => {
    if (!repeat && ['Control', 'Meta', 'Shift'].includes(key)) clipboard?.sync();
  },
  { capture: true },
);

$('file').addEventListener('change', ({ target }) => {
  files?.send([...target.files]);
  target.value = '';
});
let depth = 0;
window.addEventListener('dragenter', (event) => {
  if (!files || !event.dataTransfer.types.includes('Files')) return;
  depth += 1;
  $('drop').hidden = false;
});
window.addEventListener('dragleave', () => {
  depth = Math.max(depth - 1, 0);
  $('drop').hidden = depth === 0;
});
window.addEventListener('dragover', (event) => event.preventDefault());
window.addEventListener('drop', (event) => {
  event.preventDefault();
  depth = 0;
  $('drop').hidden = true;
  files?.send([...event.dataTransfer.files]);
});

notice('Connecting…');
connect();
