"""Validates compose.yaml against its schema, and the dashboard's queries as PromQL."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import promql_parser
import yaml

SERVING = Path(__file__).parents[1]

schema = json.loads(files("compose").joinpath("config/compose_spec.json").read_text())
compose = yaml.safe_load((SERVING / "compose.yaml").read_text())
compose.pop("name")  # newer than this schema
jsonschema.validate(compose, schema)

dashboard = json.loads((SERVING / "grafana" / "dashboards" / "serving.json").read_text())
queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
for query in queries:
    promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$model", "sargan|elegant"))
print(len(compose["services"]), "services,", len(queries), "queries")
