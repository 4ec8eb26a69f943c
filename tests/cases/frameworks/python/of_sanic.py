from sanic import Sanic, text

app = Sanic("hello")


@app.get("/")
async def hello(_):
    return text("hello from sanic")
