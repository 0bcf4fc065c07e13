"use client";

import { useClerk } from "@clerk/nextjs";
import { type FormEvent, useEffect, useState } from "react";

export function SignInForm() {
  const clerk = useClerk();
  const [loaded, setLoaded] = useState(false); // not from the first render on, which has to be as on the server
  const [busy, setBusy] = useState(false);

  useEffect(() => setLoaded(clerk.loaded), [clerk.loaded]);

  async function signIn(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    setBusy(true);
    const identifier = String(new FormData(event.currentTarget).get("name"));
    const { createdSessionId } = await clerk.client.signIn.create({ identifier });
    const redirectUrl = new URLSearchParams(location.search).get("redirect_url") ?? "/dashboard";
    await clerk.setActive({ session: createdSessionId, redirectUrl });
  }

  return (
    <form className="card" onSubmit={signIn}>
      <label>
        Name
        <input name="name" defaultValue="user_2alice" pattern="[!-~]{1,64}" required autoComplete="username" />
      </label>
      <button aria-busy={busy} disabled={!loaded || busy}>
        Sign in
      </button>
    </form>
  );
}
