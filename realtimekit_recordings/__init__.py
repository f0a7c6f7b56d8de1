"""The operators' command line: `realtimekit-recordings`, or `python -m realtimekit_recordings`.

It runs where an operator has AWS credentials, and is no part of what is deployed.
"""
