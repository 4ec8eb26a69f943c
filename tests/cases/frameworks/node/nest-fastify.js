// As nest.js, on the other of the two servers that Nest has adapters for.
require("reflect-metadata");
const { Controller, Get, Module } = require("@nestjs/common");
const { NestFactory } = require("@nestjs/core");
const { FastifyAdapter } = require("@nestjs/platform-fastify");
class Hello { hello() { return "hello from nest-fastify"; } }
Get()(Hello.prototype, "hello", Object.getOwnPropertyDescriptor(Hello.prototype, "hello"));
Controller()(Hello);
class App {}
Module({ controllers: [Hello] })(App);
NestFactory.create(App, new FastifyAdapter()).then((app) => app.listen(process.env.PORT, "0.0.0.0"));
