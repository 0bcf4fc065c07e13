import { auth } from "@clerk/nextjs/server";

import { Note } from "../note";
import { Buttons } from "./buttons";

export default async function Dashboard() {
  const { userId, sessionId } = await auth();
  return (
    <>
      <h1>Dashboard</h1>
      <p className="lead">
        You are <strong>{userId}</strong>, in session <code>{sessionId}</code>. Without one this page is not shown.
      </p>
      <Note />
      <Buttons />
    </>
  );
}
