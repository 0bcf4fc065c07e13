"""One module a path: what is asked, what is answered."""
