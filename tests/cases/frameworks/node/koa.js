const Koa = require("koa");
new Koa().use((context) => { context.body = "hello from koa"; }).listen(process.env.PORT);
