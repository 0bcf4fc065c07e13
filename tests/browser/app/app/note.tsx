"use client";

import { useSyncExternalStore } from "react";

const KEY = "note";
const listeners = new Set<() => void>();

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function write(text: string) {
  localStorage.setItem(KEY, text);
  listeners.forEach((listener) => listener());
}

/** Forget what belongs to the user who has logged out. */
export function clearNote() {
  localStorage.removeItem(KEY);
  listeners.forEach((listener) => listener());
}

export function Note() {
  const text = useSyncExternalStore(subscribe, () => localStorage.getItem(KEY) ?? "", () => "");
  return (
    <label className="note">
      A note that only you may see
      <textarea rows={2} value={text} onChange={(event) => write(event.target.value)} />
      <small>Kept in this browser, and cleared by <code>onLogout</code>.</small>
    </label>
  );
}
