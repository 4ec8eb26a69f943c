const server = require("@hapi/hapi").server({ port: process.env.PORT });
server.route({ method: "GET", path: "/", handler: () => "hello from hapi" });
server.start();
