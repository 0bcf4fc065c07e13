"use client";

import { LogoutRecorder } from "@/clerk-logout/logout-recorder";

import { clearNote } from "./note";
import { useSettings } from "./settings";

/** The recorder, and what this application forgets at a logout. */
export function Recorder() {
  const settings = useSettings();
  return settings && <LogoutRecorder url={settings.url} everyEnd={settings.everyEnd} onLogout={clearNote} />;
}
