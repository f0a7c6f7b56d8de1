"""Headings of docs/operations.md, and advice, that several checks give."""

VERIFY = "Verify a deployment"
UNDO = "Undo changes made by hand"
UNDO_CHANGE = f'Undo the change, as under "{UNDO}".'
"""The advice for a resource that is not what the template says.

A deployment of the same template does not help, because CloudFormation compares only templates.
"""
