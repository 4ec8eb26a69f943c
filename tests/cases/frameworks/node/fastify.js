const app = require("fastify")();
app.get("/", async () => "hello from fastify");
app.listen({ port: Number(process.env.PORT), host: "0.0.0.0" });
