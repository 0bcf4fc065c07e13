// Hono and Clerk's own backend package, as their documentation shows them; one log line per request.
import { createWriteStream } from "node:fs";

import { verifyToken } from "@clerk/backend";
import { serve } from "@hono/node-server";
import { Hono } from "hono";

const { CLERK_JWT_KEY, CLERK_AUTHORIZED_PARTIES, EVENT_LOG, PORT } = process.env;
const options = { jwtKey: CLERK_JWT_KEY, authorizedParties: CLERK_AUTHORIZED_PARTIES.split(",") };
const log = createWriteStream(EVENT_LOG, { flags: "a" });
const app = new Hono();

app.delete("/v1/auth/session", async (c) => {
  const event = { event: "user_logout", timestamp: new Date().toISOString() };
  try {
    const token = c.req.header("Authorization")?.replace("Bearer ", "");
    const { sub, sid } = await verifyToken(token, options);
    log.write(JSON.stringify({ ...event, auth: "verified", user_id: sub, session_id: sid }) + "\n");
  } catch (error) {
    log.write(JSON.stringify({ ...event, auth: "rejected", reason: error.reason ?? String(error) }) + "\n");
  }
  return c.json({ success: true, message: "Logged out successfully" });
});

serve({ fetch: app.fetch, hostname: "127.0.0.1", port: Number(PORT) });
