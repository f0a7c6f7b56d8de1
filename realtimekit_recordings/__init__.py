"""The operators' command line: `realtimekit-recordings`, or `python -m realtimekit_recordings`.

It runs wherever an operator has AWS credentials, and is not deployed with the stack.
"""
