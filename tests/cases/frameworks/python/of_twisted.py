import os

from twisted.internet import reactor
from twisted.web import resource, server


class Hello(resource.Resource):
    isLeaf = True

    def render_GET(self, _):
        return b"hello from twisted"


reactor.listenTCP(int(os.environ["PORT"]), server.Site(Hello()))
reactor.run()
