"""The examples name only what the template has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from doubles import ROOT
from local.template import load

EXAMPLES = ROOT / "examples"


def test_the_nested_stack_uses_parameters_and_outputs_that_exist(
    template: Mapping[str, Any],
) -> None:
    file = EXAMPLES / "nested-stack/template.yaml"
    nested = load(file)["Resources"]["Recordings"]["Properties"]

    required = {name for name, one in template["Parameters"].items() if "Default" not in one}
    assert required <= nested["Parameters"].keys() <= template["Parameters"].keys()
    outputs = set(re.findall(r"Recordings\.Outputs\.(\w+)", file.read_text()))
    assert {"EventBusName", "ApiUrl"} <= outputs <= template["Outputs"].keys()


def test_the_cdk_app_uses_parameters_and_resources_that_exist(template: Mapping[str, Any]) -> None:
    source = (EXAMPLES / "cdk/app.py").read_text()

    [parameters] = re.findall(r"parameters=\{(.+?)\}", source)
    given = set(re.findall(r'"(\w+)":', parameters))
    required = {name for name, one in template["Parameters"].items() if "Default" not in one}
    assert required <= given <= template["Parameters"].keys()
    assert re.findall(r'get_resource\("(\w+)"\)', source) == ["EventBus"]
    assert template["Resources"]["EventBus"]["Type"] == "AWS::Events::EventBus"
