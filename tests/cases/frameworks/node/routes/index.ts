export default defineEventHandler(() => "hello from nitro");
