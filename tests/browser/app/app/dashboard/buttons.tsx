"use client";

import { SignOutButton, useClerk } from "@clerk/nextjs";

import { LogoutButton } from "@/clerk-logout/logout-button";
import { SignOutEverywhere } from "@/clerk-logout/sign-out-everywhere";

import { useSettings } from "../settings";

export function Buttons() {
  const clerk = useClerk();
  const { url, redirectUrl } = useSettings() ?? {};
  return (
    <section aria-labelledby="ways">
      <h2 id="ways">Ways to sign out</h2>
      <ul className="ways">
        <li>
          <div>
            <h3>The button of this folder</h3>
            <p>
              <code>&lt;LogoutButton&gt;</code> records first and then signs out, so that nothing is lost even where the tab
              is closed at once.
            </p>
          </div>
          <LogoutButton className="primary" url={url} redirectUrl={redirectUrl} />
        </li>
        <li>
          <div>
            <h3>Clerk&rsquo;s button</h3>
            <p>
              <code>&lt;SignOutButton&gt;</code>, or &ldquo;Sign out&rdquo; behind your picture above: heard by{" "}
              <code>&lt;LogoutRecorder&gt;</code>.
            </p>
          </div>
          <SignOutButton redirectUrl={redirectUrl ?? "/sign-in"}>
            <button>Sign out with Clerk</button>
          </SignOutButton>
        </li>
        <li>
          <div>
            <h3>Your own code</h3>
            <p>
              <code>await clerk.signOut()</code>, or <code>session.end()</code>: heard as well.
            </p>
          </div>
          <button onClick={() => clerk.signOut({ redirectUrl })}>Call signOut()</button>
        </li>
        <li>
          <div>
            <h3>All other devices</h3>
            <p>Ends the sessions you have in other browsers, and keeps this one.</p>
          </div>
          <SignOutEverywhere url={url} />
        </li>
      </ul>
    </section>
  );
}
