"""What a request tells besides who sends it: from where it comes, and the ids by which it is known."""
