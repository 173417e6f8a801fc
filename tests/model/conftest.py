"""Marks of the model's tests."""


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out by tests/run --fast")
