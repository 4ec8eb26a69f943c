//! `/v1/openapi.json`: the API as OpenAPI 3.1, made from the table of routes and the wire types. docs/openapi.json is
//! this document, held by a test.

use std::sync::OnceLock;

use hyper::Response;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use watt_api::control::Problem;

use super::{
    body::{self, Reply},
    problem::Failure,
    routes::{Action, Content, Kind, Parameter, ROUTES, Route},
};
use crate::words;

pub(super) fn get() -> Result<Response<Reply>, Failure> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    body::json(DOCUMENT.get_or_init(document))
}

/// The document.
pub(super) fn document() -> Value {
    // OpenAPI 3.1 schemas are JSON Schema 2020-12, and live below `components`.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.to_lowercase()] = operation(route, &mut schemas, problem.as_value());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "watt control API",
            "version": "1",
            "description": "HTTP/1.1 over the application's control socket. Times are RFC 3339 in UTC with milliseconds. `x-role` is what a caller has to be: view, operate or admin, each of which includes those before it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://watt", "description": "The Unix socket control.sock in the runtime folder" }],
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "x-role": words::role(route.role),
        "responses": {
            "200": { "description": "Done", "content": content(route.reply, schemas) },
            "default": {
                "description": "Not done, and why",
                "content": { "application/json": { "schema": problem } },
            },
        },
    });
    let parameters: Vec<Value> =
        path_parameter(route.path).into_iter().chain(route.query.iter().map(query_parameter)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        let schema = json!({ "schema": body(schemas) });
        operation["requestBody"] = match route.action {
            Action::Apply => {
                json!({ "content": { "application/json": &schema, "application/yaml": &schema } })
            }
            _ => json!({ "content": { "application/json": schema } }),
        };
    }
    operation
}

fn content(content: Content, schemas: &mut SchemaGenerator) -> Value {
    match content {
        Content::One(schema) => json!({ "application/json": { "schema": schema(schemas) } }),
        Content::Lines(schema) => json!({ "application/x-ndjson": { "schema": schema(schemas) } }),
        Content::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Content::Document => json!({ "application/json": { "schema": { "type": "object" } } }),
    }
}

fn path_parameter(path: &str) -> Option<Value> {
    let (name, _) = path.split_once('{')?.1.split_once('}')?;
    Some(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
}

fn query_parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Names => json!({ "type": "array", "items": { "type": "string" } }),
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.text, "schema": schema })
}
