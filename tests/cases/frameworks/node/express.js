const app = require("express")();
app.get("/", (_, response) => response.send("hello from express"));
app.listen(process.env.PORT);
