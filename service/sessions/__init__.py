"""Whether a session counts: its token is verified, and it is not signed out."""
