"""Checks the Kubernetes manifests in a file by their schemas, and prints them as a list in JSON."""

import json
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor

with open(sys.argv[1]) as file:
    manifests = list(yaml.safe_load_all(file))
for manifest in manifests:
    if manifest["kind"] == "PodMonitor":
        # The model leaves out fields that it does not know.
        known = PodMonitor.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True)
        if known != manifest:
            sys.exit(f"unknown fields in the PodMonitor; known are: {known}")
    else:
        for version in ("1.30", "1.37"):
            kubernetes_validate.validate(manifest, version, strict=True)
json.dump(manifests, sys.stdout)
