"""Lets in only requests whose session token counts: verified, and its session not signed out."""
