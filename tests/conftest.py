"""Settings for all tests."""

import os

from hypothesis import settings

# No deadlines: machines are noisy. In CI the examples are the same each time, so that a failure is the change's own.
settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("here")
