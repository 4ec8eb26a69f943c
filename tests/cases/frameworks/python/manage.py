"""Django in one file."""

import sys

from django import http, urls
from django.conf import settings
from django.core import asgi, management, wsgi

settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test")
urlpatterns = [urls.path("", lambda _: http.HttpResponse("hello from django"))]
app = wsgi.get_wsgi_application()
of_asgi = asgi.get_asgi_application()
if __name__ == "__main__":
    management.execute_from_command_line(sys.argv)
