// What the compiler makes of `@Controller() class Hello { @Get() hello() { ... } }`.
require("reflect-metadata");
const { Controller, Get, Module } = require("@nestjs/common");
const { NestFactory } = require("@nestjs/core");
class Hello { hello() { return "hello from nest"; } }
Get()(Hello.prototype, "hello", Object.getOwnPropertyDescriptor(Hello.prototype, "hello"));
Controller()(Hello);
class App {}
Module({ controllers: [Hello] })(App);
NestFactory.create(App).then((app) => app.listen(process.env.PORT));
