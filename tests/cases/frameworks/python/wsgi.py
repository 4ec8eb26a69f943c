"""An application for servers of WSGI."""

import flask

app = flask.Flask(__name__)


@app.get("/")
def hello():
    return "hello from flask"
