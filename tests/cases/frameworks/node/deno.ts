export default { fetch: () => new Response("hello from deno") };
