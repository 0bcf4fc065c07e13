"use client";

import { useClerk, useReverification, useSession } from "@clerk/nextjs";
import { isReverificationCancelledError } from "@clerk/nextjs/errors";
import { type ComponentProps, useState } from "react";

import { LOGOUT_URL } from "./record-logout";

/** What `DELETE /v1/auth/sessions` answers. */
interface Answer {
  success?: boolean;
  reason?: string;
  revoked_sessions?: number;
}

export interface SignOutEverywhereProps extends Omit<ComponentProps<"button">, "onClick"> {
  /** `others` keeps this session; `all` ends it too. */
  scope?: "others" | "all";
  /** Where to go after `all`; Clerk's `afterSignOutUrl` unless given. */
  redirectUrl?: string;
  /** Where clerk-logout runs, instead of `NEXT_PUBLIC_CLERK_LOGOUT_URL`. */
  url?: string;
}

/** A button that ends the user's sessions on all devices, and says in words what came of it. */
export function SignOutEverywhere(props: SignOutEverywhereProps) {
  const { scope = "others", redirectUrl, url = LOGOUT_URL, children = "Sign out everywhere", ...rest } = props;
  const clerk = useClerk();
  const { session } = useSession();
  const [busy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState("");

  // Where the last proof of who the user is lies too far back, Clerk asks for it and this is called again.
  const revoke = useReverification(async (): Promise<Answer> => {
    const token = await session?.getToken({ skipCache: true });
    const response = await fetch(`${url?.replace(/\/+$/, "")}/v1/auth/sessions?scope=${scope}`, {
      method: "DELETE",
      headers: { Authorization: `Bearer ${token}` },
    });
    return response.json();
  });

  async function handleClick() {
    if (busy) return;
    setBusy(true);
    setOutcome("");
    try {
      const answer = await revoke();
      setOutcome(inWords(answer));
      if (answer.success && scope === "all") await clerk.signOut({ redirectUrl });
    } catch (error) {
      setOutcome(isReverificationCancelledError(error) ? "Nothing was changed." : UNREACHABLE);
    } finally {
      setBusy(false);
    }
  }

  return (
    <>
      <button type="button" {...rest} onClick={handleClick} aria-busy={busy} aria-disabled={busy}>
        {children}
      </button>
      <span role="status">{outcome}</span>
    </>
  );
}

const UNREACHABLE = "The server could not be reached. Try again later.";
const TRY_LATER = "Not all sessions could be ended. Try again in a minute.";
const SIGN_IN_AGAIN = "Your session is over. Sign in again.";

/** What the user can do about a reason; where there is nothing, the answer to all others. */
const REASONS: Record<string, string> = {
  busy: "This is being done already. Try again in a moment.",
  "sessions-left": TRY_LATER,
  "clerk-timeout": TRY_LATER,
  "clerk-unreachable": TRY_LATER,
  "clerk-rate-limited": TRY_LATER,
  "session-token-missing": SIGN_IN_AGAIN,
  "token-expired": SIGN_IN_AGAIN,
};

function inWords({ success, reason = "", revoked_sessions: ended = 0 }: Answer): string {
  if (!success) return REASONS[reason] ?? "This did not work. Your sessions go on.";
  if (ended === 0) return "There was no other session.";
  return ended === 1 ? "Signed out of 1 session." : `Signed out of ${ended} sessions.`;
}
