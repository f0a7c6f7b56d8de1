"""The operators' command against the deployed stack."""

from __future__ import annotations

import subprocess
import sys

from local.stack import ROOT

from .conftest import Deployment, on_the_shared_deployment


@on_the_shared_deployment
def test_a_registered_webhook_is_right_and_can_be_registered_again(
    deployed: Deployment, environment: dict[str, str]
) -> None:
    described = deployed.stack.description
    environment |= {
        "AWS_ENDPOINT_URL": described["aws_endpoint_url"],
        "AWS_REGION": described["region"],
        "AWS_ACCESS_KEY_ID": described["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": described["aws_secret_access_key"],
    }

    def webhook(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "realtimekit_recordings", "webhook", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert "local-realtimekit-token" not in done.stdout + done.stderr
        return done.returncode, done.stdout

    url = ("--url", described["webhook_url"])
    assert webhook("check", *url)[0] == 1
    assert webhook("register", *url)[1].startswith("Created ")
    assert webhook("check", *url)[0] == 0
    assert webhook("register", *url) == (
        0,
        "Nothing to do: the webhook is registered, and its settings are right.\n",
    )
    assert webhook("unregister", "--yes", *url)[0] == 0
    assert webhook("check", *url)[0] == 1
