from tests.pipeline.conftest import opened, reserved, solved

__all__ = ["opened", "reserved", "solved"]
