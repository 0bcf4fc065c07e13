"use client";

import { useClerk } from "@clerk/nextjs";
import type { SessionResource } from "@clerk/nextjs/types";
import { useEffect, useRef } from "react";

import { recordLogout } from "./record-logout";

export interface LogoutRecorderProps {
  /** Where clerk-logout runs, instead of `NEXT_PUBLIC_CLERK_LOGOUT_URL`. */
  url?: string;
  /** Record also what was ended elsewhere: in another tab, on another device, in Clerk's dashboard. */
  everyEnd?: boolean;
  /** Called in each tab when a session of this browser is over, wherever it was ended: clear what belongs to the user. */
  onLogout?: (ended: { sessionId: string; userId: string | undefined }) => void;
}

/** Record each session that is signed out in this tab, whichever button does it. Mount it once, in the root layout. */
export function LogoutRecorder({ url, everyEnd = false, onLogout }: LogoutRecorderProps) {
  const clerk = useClerk();
  // Clerk changes its client in place, and the tokens inside its sessions: so the sessions themselves are kept.
  const known = useRef(new Map<string, SessionResource>());

  useEffect(
    () =>
      clerk.addListener(({ client, session }) => {
        const sessions = new Map<string, SessionResource>(client.signedInSessions.map((one) => [one.id, one]));
        const ended = [...known.current.values()].filter(({ id }) => !sessions.has(id));
        known.current = sessions;
        for (const one of ended) {
          const record = () => void recordLogout(one, { url, ended: true });
          // During `signOut()` the current session is `undefined`, while after an end elsewhere it is `null` or another.
          if (everyEnd || session === undefined) record();
          // So it is after `end()` or `remove()` of a session, which itself learns of its new status in a moment.
          else setTimeout(() => (one.status === "ended" || one.status === "removed") && record());
          try {
            onLogout?.({ sessionId: one.id, userId: one.user?.id });
          } catch (error) {
            reportError(error); // Clerk must not stumble over it
          }
        }
      }),
    [clerk, url, everyEnd, onLogout],
  );
  return null;
}
