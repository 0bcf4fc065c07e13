"""A stand-in for Clerk that speaks the real protocol, for trying things out and for the tests.

It signs real RS256 session tokens and answers the parts of Clerk's Backend API that the service calls, with Clerk's
parameters and errors. It imports nothing of the service: what works against it has to work over HTTP.
"""
