"""Tests of the store: one suite for all backends."""

import pytest

pytest.register_assert_rewrite("tests.store.conformance", "tests.store.probe")
