"use client";

import { useClerk } from "@clerk/nextjs";
import type { SignOutOptions } from "@clerk/nextjs/types";
import { useCallback } from "react";

import { recordLogout } from "./record-logout";

/**
 * Return `logout(options)`, which records the logout and then signs out.
 *
 * It takes the options of `clerk.signOut()`: without a `sessionId` all sessions of this browser end, and each is recorded.
 * It rejects only where `clerk.signOut()` does.
 */
export function useLogout({ url }: { url?: string } = {}): (options?: SignOutOptions) => Promise<void> {
  const clerk = useClerk();
  return useCallback(
    async (options: SignOutOptions = {}) => {
      const sessions = clerk.client?.signedInSessions ?? []; // there is no client before Clerk has loaded
      const ending = sessions.filter(({ id }) => !options.sessionId || id === options.sessionId);
      await Promise.all(ending.map((session) => recordLogout(session, { url })));
      await clerk.signOut(options);
    },
    [clerk, url],
  );
}
