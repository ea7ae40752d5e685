"""One module per resource; `ROUTERS` is their order in the contract."""

from service.api.routes import (
    account,
    artifacts,
    blobs,
    fold,
    jobs,
    models,
    releases,
    system,
    uploads,
    verify,
    webhooks,
)

ROUTERS = (
    fold.router,
    verify.router,
    blobs.router,
    uploads.router,
    models.router,
    jobs.router,
    artifacts.router,
    releases.router,
    webhooks.router,
    account.router,
    system.router,
)
