import { serve } from "@hono/node-server";
import { Hono } from "hono";
const app = new Hono().get("/", (context) => context.text("hello from hono"));
serve({ fetch: app.fetch, port: Number(process.env.PORT) });
