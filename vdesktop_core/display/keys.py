# SPDX-License-Identifier: MIT
"""Where a key is: a browser's ``KeyboardEvent.code`` (W3C UI Events code values) to evdev's ``KEY_*``.

Both name the place on the keyboard, not the letter on it, so every layout of the guest's works.
"""

from __future__ import annotations

from typing import Final

_ROWS: Final = (
    # (first evdev code, codes in order)
    (1, "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace"),
    (15, "Tab KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter"),
    (29, "ControlLeft KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote"),
    (42, "ShiftLeft Backslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight"),
    (55, "NumpadMultiply AltLeft Space CapsLock F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock"),
    (71, "Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd"),
    (79, "Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal"),
    (85, "Lang5 IntlBackslash F11 F12 IntlRo Lang3 Lang4 Convert KanaMode NonConvert"),
    (96, "NumpadEnter ControlRight NumpadDivide PrintScreen AltRight"),
    (102, "Home ArrowUp PageUp ArrowLeft ArrowRight End ArrowDown PageDown Insert Delete"),
    (113, "AudioVolumeMute AudioVolumeDown AudioVolumeUp Power NumpadEqual"),
    (119, "Pause"),
    (121, "NumpadComma Lang1 Lang2 IntlYen MetaLeft MetaRight ContextMenu BrowserStop Again"),
    (130, "Props Undo Select Copy Open Paste Find Cut Help"),
    (140, "LaunchApp2"),
    (142, "Sleep WakeUp"),
    (155, "LaunchMail BrowserFavorites LaunchApp1 BrowserBack BrowserForward"),
    (161, "Eject"),
    (163, "MediaTrackNext MediaPlayPause MediaTrackPrevious MediaStop"),
    (172, "BrowserHome BrowserRefresh"),
    (183, "F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23 F24"),
    (217, "BrowserSearch"),
    (226, "MediaSelect"),
)
# `code` names without a row: the same keys under other names.
_OTHER_NAMES: Final = {"OSLeft": 125, "OSRight": 126, "VolumeMute": 113, "VolumeDown": 114, "VolumeUp": 115}

#: evdev codes by ``KeyboardEvent.code``.
EVDEV_BY_CODE: Final[dict[str, int]] = _OTHER_NAMES | {
    name: first + place for first, names in _ROWS for place, name in enumerate(names.split())
}


def evdev(code: str) -> int | None:
    """Return the evdev code of a browser's ``code``, or None where there is none."""
    return EVDEV_BY_CODE.get(code)
