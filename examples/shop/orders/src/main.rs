//! Orders, kept in a SQLite file of this service's own. Prices are asked of `api`, over the mesh.

use std::{io::Read, time::Duration};

use rusqlite::Connection;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let port = std::env::var("PORT")?;
    let file = std::env::var("ORDERS_DB")?;
    let database = Connection::open(&file)?;
    database.busy_timeout(Duration::from_secs(5))?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, product INTEGER, name TEXT, price INTEGER);",
    )?;
    let server = Server::http(format!("127.0.0.1:{port}")).map_err(|error| error.to_string())?;
    println!("orders are kept in {file}");
    for mut request in server.incoming_requests() {
        let (status, value) = match answer(&database, &mut request) {
            Ok(value) => (200, value),
            Err(error) => {
                eprintln!("{} {}: {error}", request.method(), request.url());
                (500, json!({ "error": error.to_string() }))
            }
        };
        let json = Header::from_bytes("content-type", "application/json").expect("a valid header");
        let response = Response::from_string(value.to_string()).with_status_code(status).with_header(json);
        // The client may have gone; that is its own business.
        let _ = request.respond(response);
    }
    Ok(())
}

fn answer(database: &Connection, request: &mut Request) -> Result<Value, Failure> {
    match (request.method(), request.url()) {
        (Method::Get, "/orders") => list(database),
        (Method::Post, "/orders") => {
            let mut body = String::new();
            request.as_reader().take(10_000).read_to_string(&mut body)?;
            let order: Value = serde_json::from_str(&body)?;
            place(database, order["product"].as_i64().ok_or("an order names a product")?)
        }
        (method, url) => Err(format!("no route for {method} {url}").into()),
    }
}

fn place(database: &Connection, product: i64) -> Result<Value, Failure> {
    let url = format!("http://api.plt.local/products/{product}");
    let product: Value = ureq::get(&url).call()?.body_mut().read_json()?;
    let (id, name, price) = (&product["id"], &product["name"], &product["price"]);
    database.execute(
        "INSERT INTO orders (product, name, price) VALUES (?1, ?2, ?3)",
        (id.as_i64(), name.as_str(), price.as_i64()),
    )?;
    Ok(json!({ "id": database.last_insert_rowid(), "name": name, "price": price }))
}

fn list(database: &Connection) -> Result<Value, Failure> {
    let mut statement = database.prepare_cached("SELECT id, name, price FROM orders ORDER BY id DESC LIMIT 20")?;
    let orders = statement.query_map([], |row| {
        Ok(json!({
            "id": row.get::<_, i64>(0)?,
            "name": row.get::<_, String>(1)?,
            "price": row.get::<_, i64>(2)?,
        }))
    })?;
    Ok(orders.collect::<Result<Vec<_>, _>>()?.into())
}
