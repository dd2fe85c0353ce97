"""The painting page: `Studio`'s functions as a Gradio app, and the limits of what the server answers."""

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported: it asks the internet for its version

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402

from model.errors import UserError  # noqa: E402
from model.serving.painting import MAX_UPLOAD, Studio  # noqa: E402

WEB = Path(__file__).parent / "web"
MAX_BODY = MAX_UPLOAD * 4 // 3 + 2**16  # bytes of a request: a file in base64 and what surrounds it
MAX_WAITING = 200  # requests in the queue; browsers that find it full try again
# What the page and Gradio's clients ask for. Gradio answers more, among it uploads to and files of the disk.
_OPEN = (
    "/assets/", "/static/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt",
    "/gradio_api/call/", "/gradio_api/queue/", "/gradio_api/info", "/gradio_api/heartbeat/", "/gradio_api/cancel",
    "/gradio_api/startup-events", "/gradio_api/app_id", "/gradio_api/reset", "/gradio_api/openapi.json",
)  # fmt: skip


def _gate(app: Callable) -> Callable:
    """ASGI middleware: answers 404 outside the page's paths, 413 to a body above MAX_BODY, hands on everything else."""

    async def answer(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in ("", "/") and not path.startswith(_OPEN):
            return await _refused("not found", 404)(scope, receive, send)
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY:
                return await _refused("too large", 413)(scope, receive, send)
        received = [{"type": "http.request", "body": bytes(body)}]

        async def replay():
            return received.pop() if received else await receive()

        await app(scope, replay, send)

    return answer


_refused = partial(PlainTextResponse, headers={"connection": "close"})


def _told(function: Callable) -> Callable:
    """The function with its `UserError`s as Gradio's, whose text reaches the page."""

    @wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return call


def build_page(studio: Studio) -> gr.Blocks:
    """The page with its queue; `launch_page` serves it."""
    html, style, script = ((WEB / f"painting.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    with gr.Blocks(title="SPADE painter", analytics_enabled=False) as page:
        gr.HTML(f"<style>{style}</style>{html}", js_on_load=script, elem_id="studio", apply_default_css=False)
        network = {"concurrency_limit": 1, "concurrency_id": "network"}  # one picture after the other
        gr.api(_told(studio.paint), api_name="paint", **network)
        gr.api(_told(studio.read_photo), api_name="read_photo", **network)
        gr.api(_told(studio.read_map), api_name="read_map", concurrency_limit=1)
        gr.api(_told(studio.write_map), api_name="write_map", concurrency_limit=1)
        gr.api(_told(studio.describe), api_name="describe", concurrency_limit=4)
    return page.queue(max_size=MAX_WAITING)


def launch_page(page: gr.Blocks, host: str | None, port: int | None, **more: Any) -> str:
    """Serve the page until the process ends or, with prevent_thread_lock, until `page.close()`; returns its address.

    Without a host it is 127.0.0.1, without a port the first free one from 7860, unless Gradio's variables
    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say otherwise.

    Raises:
        UserError: The port is taken or no port, or the address is not one of this machine.
    """
    try:
        _, url, _ = page.launch(
            server_name=host, server_port=port, share=False, show_error=False, ssr_mode=False, run_history=False,
            footer_links=[], allowed_paths=[], blocked_paths=["/"], max_file_size=1, enable_monitoring=False,
            app_kwargs={"middleware": [Middleware(_gate)]}, pwa=False, mcp_server=False, quiet=True, **more,
        )  # fmt: skip
    except (OSError, OverflowError) as error:
        reason = str(error).partition(". ")[0]
        raise UserError(f"cannot serve on {host or '127.0.0.1'}, port {port or '7860 and on'}: {reason}") from None
    return url
