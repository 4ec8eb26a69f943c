"""Applications for servers of ASGI."""

import fastapi
import litestar
from starlette import applications, responses, routing

fast = fastapi.FastAPI()


@fast.get("/")
def of_fastapi():
    return "hello from fastapi"


async def of_starlette(_):
    return responses.PlainTextResponse("hello from starlette")


star = applications.Starlette(routes=[routing.Route("/", of_starlette)])


@litestar.get("/")
async def of_litestar() -> str:
    return "hello from litestar"


lite = litestar.Litestar([of_litestar])
