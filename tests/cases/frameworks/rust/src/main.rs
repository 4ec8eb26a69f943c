#[tokio::main(flavor = "current_thread")]
async fn main() {
    let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello from axum" }));
    let address = format!("0.0.0.0:{}", std::env::var("PORT").unwrap());
    axum::serve(tokio::net::TcpListener::bind(address).await.unwrap(), app).await.unwrap();
}
