// A provider of OpenID Connect whose users have any name and any password. Behind the gateway browsers know it as `id.test`.
import Provider from "oidc-provider";

const provider = new Provider("http://id.test", {
  clients: [{
    client_id: "shop",
    client_secret: "a secret of the shop's",
    grant_types: ["authorization_code", "refresh_token"],
    redirect_uris: ["http://shop.test/auth/callback"],
    post_logout_redirect_uris: ["http://shop.test/bye"],
  }],
  claims: { openid: ["sub"], email: ["email"], staff: ["roles"] },
  scopes: ["openid", "email", "staff", "offline_access"],
  conformIdTokenClaims: false,
  cookies: { keys: ["cookies of the provider's"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.org`, roles: ["staff"] }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  pkce: { methods: ["S256"], required: () => true },
});
provider.proxy = true;
provider.on("server_error", (_, error) => console.error(error));
provider.listen(process.env.PORT);
