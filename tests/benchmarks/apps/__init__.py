"""The contenders in Python. Each is a whole application for uvicorn, set up by the service's environment variables."""
