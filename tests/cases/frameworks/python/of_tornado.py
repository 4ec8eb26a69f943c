import asyncio
import os

from tornado import web


class Hello(web.RequestHandler):
    def get(self):
        self.write("hello from tornado")


async def main():
    web.Application([("/", Hello)]).listen(int(os.environ["PORT"]))
    await asyncio.Event().wait()


asyncio.run(main())
