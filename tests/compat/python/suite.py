"""A pytest plugin that lets kafka-python's own integration suite run from its source package, against a broker that already runs.

The package leaves out `test.service`, by which the suite starts servers of its own: here stands what it asks of an external one. What
the suite can't be asked for, and why, is in EXCLUDED; it is counted as excluded, never as passed. QUIPU_COMPAT_SUITE names the source
package's directory. Each test ends as a line "ok NAME", "FAIL NAME: WHY" or "excluded NAME: WHY".
"""
import os
import sys
import types

import pytest

ROOT = os.environ["QUIPU_COMPAT_SUITE"]

EXCLUDED = {
    "test_sasl_integration": "SASL comes in a later release",
    "test_ssl_integration": "TLS comes in a later release",
    "acls": "ACLs come in a later release",
    "test_transactional": "transactions come in a later release",
    "test_alter_replica_log_dirs": "a broker has one log directory",
    "test_kafka_consumer_unsupported_encoding": "expects a machine that lacks a codec; no broker's affair",
}

# `test` is a package of Python itself as well; this is the suite's.
package = types.ModuleType("test")
package.__path__ = [os.path.join(ROOT, "test")]
sys.modules["test"] = package


class ExternalService:
    """A broker that somebody else starts and stops."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass


class SpawnedService:
    def __init__(self, *_arguments):
        raise RuntimeError("the broker is started by whoever runs the suite")


service = types.ModuleType("test.service")
service.ExternalService = ExternalService
service.SpawnedService = SpawnedService
sys.modules["test.service"] = service


def name(nodeid):
    return nodeid.rsplit("/", 1)[-1].replace("::", " ").replace(".py", "")


def pytest_collection_modifyitems(config, items):
    kept = []
    for item in items:
        why = next((why for part, why in EXCLUDED.items() if part in item.nodeid), None)
        if why is None:
            kept.append(item)
        else:
            print(f"\nexcluded {name(item.nodeid)}: {why}", flush=True)
    items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        print(f"\nok {name(report.nodeid)}", flush=True)
    elif report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        print(f"\nexcluded {name(report.nodeid)}: {' '.join(why.split())}", flush=True)
    elif report.failed and report.when != "teardown":
        crash = getattr(report.longrepr, "reprcrash", None)
        why = crash.message if crash else str(report.longrepr).strip().splitlines()[-1]
        print(f"\nFAIL {name(report.nodeid)}: {' '.join(why.split())[:300]}", flush=True)
