"""A stand-in for Clerk, for trying things out and for the tests.

It signs real RS256 session tokens, sends signed webhooks, and answers the calls of Clerk's Backend API that the service
makes, and the few of its Frontend API that the page makes; nothing else of Clerk. It imports nothing of the service:
what works against it works over HTTP. Only ``command`` knows both.
"""
