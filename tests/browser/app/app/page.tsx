import Link from "next/link";

const SANDBOX = process.env.NEXT_PUBLIC_SANDBOX_URL ?? "http://localhost:8001";

export default function Home() {
  return (
    <>
      <h1>Every logout, recorded</h1>
      <p className="lead">
        A Next.js application with Clerk, four ways to sign out, and one component in the root layout that hears them all.
      </p>
      <ol className="steps">
        <li>
          <Link href="/sign-in">Sign in</Link> with any name. Nothing leaves this machine, and no account is needed.
        </li>
        <li>
          Sign out on{" "}
          <Link href="/dashboard" prefetch={false}>
            the dashboard
          </Link>
          , with whichever button you like.
        </li>
        <li>
          See the event on <a href={SANDBOX}>the sandbox&rsquo;s page</a>, or in the terminal.
        </li>
      </ol>
    </>
  );
}
