/**
 * Tells clerk-logout that a session is being signed out. No framework, no dependency: outside Next.js change the two
 * constants that read the environment, and use `recordLogout` alone.
 */

/** Where clerk-logout runs: `https://logout.example.com`, or `/` where your own host passes `/v1/auth` on to it. */
export const LOGOUT_URL = process.env.NEXT_PUBLIC_CLERK_LOGOUT_URL;

/** Whether a call that fails is explained in the console. */
const DEVELOPMENT = process.env.NODE_ENV === "development";

const TOKEN_TIMEOUT = 1500;
const SLOW = 5000;
const STORAGE_KEY = "clerk-logout";
const REMEMBERED = 20;

/** What is needed of a session; Clerk's own sessions have it. */
export interface EndingSession {
  id: string;
  getToken(): Promise<string | null>;
  lastActiveToken: { getRawString(): string } | null;
}

export interface RecordLogoutOptions {
  /** Where clerk-logout runs, instead of `NEXT_PUBLIC_CLERK_LOGOUT_URL`. */
  url?: string;
  /** The session is over: its last token is sent, for Clerk gives no new one. */
  ended?: boolean;
}

/**
 * Record that a session is signed out, once for each session and browser.
 *
 * Call it before `signOut()`. It settles when the call is on its way, after 1.5 s at most, and never rejects; the answer
 * is not waited for, and the call outlives the page.
 */
export async function recordLogout(session: EndingSession, options: RecordLogoutOptions = {}): Promise<void> {
  const { url = LOGOUT_URL, ended = false } = options;
  if (!url) {
    warn("NEXT_PUBLIC_CLERK_LOGOUT_URL is not set, so no logout is recorded.");
    return;
  }
  const base = url.replace(/\/+$/, "");
  const lastToken = session.lastActiveToken?.getRawString();

  const record = async (sent: () => void) => {
    const known = recall();
    if (known.includes(session.id)) return;
    remember([...known, session.id]);
    const token = (ended ? null : await newToken(session)) ?? lastToken;
    const response = fetch(`${base}/v1/auth/session`, {
      method: "DELETE",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      keepalive: true,
    });
    sent();
    if (DEVELOPMENT) void explain(response, base);
    const { ok } = await response.catch(() => ({ ok: false }));
    // So that the next click, when the user or the service is online again, is not taken for a repetition.
    if (!ok) remember(recall().filter((id) => id !== session.id));
  };

  await new Promise<void>((settle) => {
    // What one tab remembers, another reads a moment later: until there is an answer, a lock keeps the others off.
    const name = `clerk-logout ${session.id}`;
    const locked = navigator.locks?.request(name, { ifAvailable: true }, (lock) => lock && record(settle));
    (locked ?? Promise.reject()).catch(() => record(settle)).finally(settle);
  });
}

/** The sessions that were recorded lately, in all tabs; where storage is blocked, in this one. */
function recall(): string[] {
  try {
    return (localStorage.getItem(STORAGE_KEY) ?? "").split(" ");
  } catch {
    return recorded;
  }
}

function remember(sessionIds: string[]): void {
  recorded = sessionIds.slice(-REMEMBERED);
  try {
    localStorage.setItem(STORAGE_KEY, recorded.join(" "));
  } catch {
    // This tab remembers it.
  }
}

let recorded: string[] = [];

/** Ask Clerk for a token, with a bound: near a token's end it retries for long, and the user waits to sign out. */
function newToken(session: EndingSession): Promise<string | null> {
  return new Promise((resolve) => {
    setTimeout(resolve, TOKEN_TIMEOUT, null);
    session.getToken().then(resolve, () => resolve(null));
  });
}

/** Say in the console why a call has failed. */
async function explain(call: Promise<Response>, base: string): Promise<void> {
  const where = base || "this host, which has to pass /v1/auth on (next.config)";
  const slow = setTimeout(() => warn(`${where} has not answered for ${SLOW / 1000} s. Is it overloaded?`), SLOW);
  try {
    const response = await call;
    if (response.status === 404) {
      warn(`${where} answered 404. NEXT_PUBLIC_CLERK_LOGOUT_URL has to be the address of clerk-logout, without a path.`);
    } else if (!response.ok) {
      warn(`${where} answered ${response.status}; clerk-logout answers 200. What is running there?`);
    } else if ((await response.json()).recorded !== true) {
      warn(`${where} could not write the event. Its log says why.`);
    }
  } catch {
    // Without CORS any answer will do: it tells a service that refuses this page from one that is not there.
    const isUp = await fetch(`${base}/healthz`, { mode: "no-cors" }).then(() => true, () => false);
    if (isUp) {
      warn(`${where} answers, but not to ${location.origin}: add that to CLERK_AUTHORIZED_PARTIES.`);
    } else {
      warn(`${where} cannot be reached. Is NEXT_PUBLIC_CLERK_LOGOUT_URL right, and connect-src of your CSP?`);
    }
  } finally {
    clearTimeout(slow);
  }
}

function warn(text: string): void {
  if (DEVELOPMENT) console.warn(`clerk-logout: ${text}`);
}
