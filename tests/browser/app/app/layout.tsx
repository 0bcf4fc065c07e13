import { ClerkProvider, Show, UserButton } from "@clerk/nextjs";
import type { Metadata } from "next";
import Link from "next/link";
import type { ReactNode } from "react";

import { Recorder } from "./recorder";
import "./style.css";

export const metadata: Metadata = { title: "clerk-logout example" };

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <ClerkProvider signInUrl="/sign-in" afterSignOutUrl="/sign-in">
      <html lang="en">
        <body>
          <Recorder />
          <header>
            {/* No prefetch: the dashboard, asked for while signed out, would be remembered as the way to the sign-in page. */}
            <Link href="/" prefetch={false} className="brand">
              clerk-logout <span>example</span>
            </Link>
            <nav aria-label="Main">
              <Link href="/dashboard" prefetch={false}>Dashboard</Link>
              <Show when="signed-out">
                <Link href="/sign-in">Sign in</Link>
              </Show>
              <Show when="signed-in">
                <UserButton />
              </Show>
            </nav>
          </header>
          <main>{children}</main>
        </body>
      </html>
    </ClerkProvider>
  );
}
