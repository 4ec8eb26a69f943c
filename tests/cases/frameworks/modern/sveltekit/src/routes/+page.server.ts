export const load = () => ({ text: "hello from sveltekit" });
