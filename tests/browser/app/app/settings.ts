"use client";

import { useEffect, useState } from "react";

interface Settings {
  url?: string;
  everyEnd?: boolean;
  redirectUrl?: string;
}

/** What the browser tests change by `localStorage.example = '{"everyEnd": true}'`; your application has no such thing. */
export function useSettings(): Settings | undefined {
  const [settings, setSettings] = useState<Settings>();
  useEffect(() => setSettings(JSON.parse(localStorage.getItem("example") ?? "{}")), []);
  return settings;
}
