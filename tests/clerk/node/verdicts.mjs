// What Clerk's JavaScript SDK makes of each token of a JSON list on standard input.
import { text } from "node:stream/consumers";

import { verifyToken } from "@clerk/backend";
import { TokenVerificationErrorReason } from "@clerk/backend/errors";

const { tokens, ...options } = JSON.parse(await text(process.stdin));
const verdicts = [];
for (const token of tokens) {
  try {
    await verifyToken(token, options);
    verdicts.push("verified");
  } catch (error) {
    verdicts.push(error.reason === TokenVerificationErrorReason.TokenExpired ? "expired" : "rejected");
  }
}
console.log(JSON.stringify(verdicts));
