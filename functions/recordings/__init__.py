"""The code that the functions share, without Lambda, the environment, or the making of clients."""

import logging

__version__ = "0.1.0"

# Each cold start would log where botocore found the credentials, once for each session.
logging.getLogger("botocore.credentials").setLevel(logging.WARNING)
