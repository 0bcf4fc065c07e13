"use client";

import type { SignOutOptions } from "@clerk/nextjs/types";
import { type ComponentProps, type MouseEvent, type ReactElement, cloneElement, useState } from "react";

import { useLogout } from "./use-logout";

type ButtonProps = ComponentProps<"button">;

export type LogoutButtonProps = SignOutOptions & { url?: string } & (
    | ({ asChild?: false } & ButtonProps)
    | ({ asChild: true; children: ReactElement<ButtonProps> } & Omit<ButtonProps, "children">)
  );

/**
 * A button that records the logout and signs out.
 *
 * Props of a button are passed on, also to `children` where they are a button of your own (`asChild`). While it works it is
 * `aria-busy`, and further clicks do nothing. Where `clerk.signOut()` rejects, so does the click, for your error reporter.
 */
export function LogoutButton(props: LogoutButtonProps) {
  const { redirectUrl, sessionId, url, asChild, children = "Log out", onClick, ...rest } = props;
  const logout = useLogout({ url });
  const [busy, setBusy] = useState(false);

  async function handleClick(event: MouseEvent<HTMLButtonElement>) {
    onClick?.(event);
    if (busy || event.defaultPrevented) return;
    setBusy(true);
    try {
      await logout({ redirectUrl, sessionId });
    } finally {
      setBusy(false);
    }
  }

  // Not `disabled`, which would take the focus away from who uses the keyboard.
  const added = { ...rest, onClick: handleClick, "aria-busy": busy, "aria-disabled": busy };
  if (asChild) return cloneElement(children as ReactElement<ButtonProps>, added);
  return (
    <button type="button" {...added}>
      {children}
    </button>
  );
}
