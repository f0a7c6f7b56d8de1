"""The catalogue page: a server on loopback that shows the catalogue in a browser.

The server calls the API with the operator's AWS credentials, which never reach the browser.
docs/security.md says who is kept out, and how.
"""
