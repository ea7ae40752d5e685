"""The servers of the service's tests, for the fault tests too."""

from tests.service.conftest import kind, postgres, s3, services, session_folder, settings_of  # noqa: F401
