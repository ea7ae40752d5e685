"""`serve`, `worker`, `migrate`, `doctor`, `keys`: the commands of those who run the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import flags as f


def register(app: typer.Typer) -> None:
    """Hang the commands into the tree."""
    for command in (serve, worker, migrate, doctor):
        app.command()(command)
    app.add_typer(_keys, name="keys")


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="BNFOLD_DATA_DIR", help="Folder of database, blobs and scratch."),
]
Unsandboxed = Annotated[
    bool, typer.Option("--allow-unsandboxed", help="Start even where no sandbox can be had.")
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; a public one needs an API key.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    web_workers: Annotated[int | None, typer.Option("--web-workers", help="HTTP processes.")] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs that run at a time.")] = None,
    data_dir: DataDir = None,
    allow_unsandboxed: Unsandboxed = False,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Run the service: HTTP interface, web pages and, with the embedded engine, the jobs.

    Every other setting comes from BNFOLD_* variables, see docs/reference/settings.md.

    [bold]Examples[/bold]

      bnfold serve

      bnfold serve --port 9000 --data-dir /srv/bnfold
    """
    from service.cli import operate_commands

    return operate_commands.serve(
        {"host": host, "port": port, "web_workers": web_workers, "slots": slots, "data_dir": data_dir,
         "allow_unsandboxed": allow_unsandboxed or None},
        as_json, quiet,
    )  # fmt: skip


def worker(
    pools: Annotated[
        list[str] | None, typer.Option("--pool", help="Pool to serve: cpu, cuda. Repeatable.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs that run at a time.")] = None,
    data_dir: DataDir = None,
    allow_unsandboxed: Unsandboxed = False,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Run jobs for a service on this machine (engine `procrastinate`, or beside an embedded one).

    [bold]Examples[/bold]

      BNFOLD_ENGINE=procrastinate BNFOLD_DATABASE_URL=postgresql+psycopg://... bnfold worker

      bnfold worker --pool cuda --slots 1
    """
    from service.cli import operate_commands

    settings = {"pools": pools or None, "slots": slots, "data_dir": data_dir,
                "allow_unsandboxed": allow_unsandboxed or None}  # fmt: skip
    return operate_commands.worker(settings, as_json, quiet)


def migrate(data_dir: DataDir = None, as_json: f.Json = False, quiet: f.Quiet = False) -> int:
    """Bring the database of the service up to date, and end.

    Every process of the service does so when it starts. A deployment that starts several at once may do it
    before, so that none waits for another one.

    [bold]Examples[/bold]

      BNFOLD_DATABASE_URL=postgresql+psycopg://... bnfold migrate
    """
    from service.cli import operate_commands

    return operate_commands.migrate({"data_dir": data_dir}, as_json, quiet)


def doctor(
    url: Annotated[
        str | None, typer.Option("--url", envvar="BNFOLD_URL", help="Ask a running service as well.")
    ] = None,
    key: f.Key = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Tell what works here and what does not: packages, providers, sandbox, storage, a running service.

    Exit code 0 when everything that a fold needs is there, 75 when something is missing.

    [bold]Examples[/bold]

      bnfold doctor

      bnfold doctor --url http://127.0.0.1:8750 --json
    """
    from service.cli import doctor as command

    return command.run(url, key, as_json, quiet)


_keys = typer.Typer(
    no_args_is_help=True, help="API keys of the service on this machine, and its signing key."
)


@_keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What the key is for, in your words.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="submit, read or admin. Repeatable. Default: submit, read."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose jobs and models the key sees.")] = "default",
    expires_days: Annotated[
        float | None, typer.Option("--expires-days", min=0.0, help="Days until it ends.")
    ] = None,
    data_dir: DataDir = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Make an API key. It is shown once; only its hash is kept.

    [bold]Examples[/bold]

      bnfold keys create ci --scope submit --scope read --expires-days 90
    """
    from service.cli import keys

    return keys.create(name, scopes or ["submit", "read"], tenant, expires_days, data_dir, as_json, quiet)


@_keys.command("list")
def keys_list(data_dir: DataDir = None, as_json: f.Json = False, quiet: f.Quiet = False) -> int:
    """List the API keys with scopes, tenant and expiry; never their secrets."""
    from service.cli import keys

    return keys.show(data_dir, as_json, quiet)


@_keys.command("rotate")
def keys_rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part before the dot.")],
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0.0, help="How long the old key goes on working.")
    ] = 24.0,
    data_dir: DataDir = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Replace an API key by one with the same name, tenant, scopes and lifetime. It is shown once.

    [bold]Examples[/bold]

      bnfold keys rotate ID --overlap-hours 48
    """
    from service.cli import keys

    return keys.rotate(key_id, overlap_hours, data_dir, as_json, quiet)


@_keys.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part before the dot.")],
    data_dir: DataDir = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """End an API key now."""
    from service.cli import keys

    return keys.revoke(key_id, data_dir, as_json, quiet)


@_keys.command("forget-all")
def keys_forget_all(data_dir: DataDir = None, as_json: f.Json = False, quiet: f.Quiet = False) -> int:
    """Delete all keys, none of which may still be usable; local requests then need no key again."""
    from service.cli import keys

    return keys.forget_all(data_dir, as_json, quiet)


@_keys.command("signing")
def keys_signing(
    path: Annotated[
        Path | None, typer.Option("--key-file", help="The private key. Default: your own, made when missing.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The key of the service with this data folder.")
    ] = None,
    as_json: f.Json = False,
    quiet: f.Quiet = False,
) -> int:
    """Print the public key that `bnfold pull --verify-key` takes."""
    from service.cli import keys

    if data_dir is not None:
        path = data_dir / keys.SIGNING_KEY
    return keys.signing(path, as_json, quiet)
