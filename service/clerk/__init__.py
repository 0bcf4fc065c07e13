"""Who it is: session tokens, verdicts, keys, Clerk's Backend API. Only here is Clerk's SDK imported."""
