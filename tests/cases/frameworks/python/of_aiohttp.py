import os

from aiohttp import web


async def hello(_):
    return web.Response(text="hello from aiohttp")


app = web.Application()
app.router.add_get("/", hello)
web.run_app(app, port=int(os.environ["PORT"]))
