"""The report: from event files to the answers of docs/data.md. Needs the extra ``report``."""
