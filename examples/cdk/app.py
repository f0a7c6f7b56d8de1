"""RealtimeKit recordings in a stack of an AWS CDK app, with a queue of archived recordings.

docs/other-ways.md has the steps: packaged.yaml is the packaged template of a release.
"""

from __future__ import annotations

from aws_cdk import App, CfnOutput, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from aws_cdk.cloudformation_include import CfnInclude
from constructs import Construct


class Recordings(Stack):
    """All resources of the packaged template, under their own logical ids, and a subscriber."""

    def __init__(self, scope: Construct, name: str, *, account_id: str, app_id: str) -> None:
        """Add the template's resources for one RealtimeKit app, and the subscriber's."""
        super().__init__(scope, name)
        template = CfnInclude(
            self,
            "Template",
            template_file="packaged.yaml",
            parameters={"CloudflareAccountId": account_id, "RealtimeKitAppId": app_id},
        )
        bus = events.EventBus.from_event_bus_name(
            self, "Bus", template.get_resource("EventBus").ref
        )
        queue = sqs.Queue(self, "Archived", encryption=sqs.QueueEncryption.SQS_MANAGED)
        rule = events.Rule(
            self,
            "WhenArchived",
            event_bus=bus,
            event_pattern=events.EventPattern(
                source=["realtimekit.recordings"], detail_type=["Recording Archived"]
            ),
        )
        rule.add_target(targets.SqsQueue(queue))
        CfnOutput(self, "ArchivedQueueUrl", value=queue.queue_url)


app = App()
Recordings(
    app,
    "realtimekit-recordings",
    account_id=app.node.get_context("cloudflareAccountId"),
    app_id=app.node.get_context("realtimeKitAppId"),
)
app.synth()
