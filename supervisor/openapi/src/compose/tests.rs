//! Descriptions and what is made of them.

use proptest::prelude::*;

use super::*;
use crate::read::{DEPTH_MAX, VALUES_MAX};

fn to(path: &str, service: &str) -> Way {
    Way { service: Some(service.to_owned()), path: path.to_owned(), ..Way::default() }
}

fn stripped(path: &str, service: &str) -> Way {
    Way { rewrite: Some(String::new()), ..to(path, service) }
}

fn made(sources: &[(&str, &Value, &Rules)], ways: &[Way]) -> (Value, Composed) {
    let texts: Vec<String> = sources.iter().map(|(_, document, _)| document.to_string()).collect();
    let sources: Vec<Source<'_>> = sources
        .iter()
        .zip(&texts)
        .map(|((service, _, rules), text)| Source { service, text: text.as_bytes(), rules })
        .collect();
    let about = About { title: "shop".into(), version: "1".into(), description: None };
    let composed = compose(&about, &sources, ways);
    (serde_json::from_str(&composed.document).unwrap(), composed)
}

/// What is made of one service at `/`.
fn alone(document: &Value) -> (Value, Vec<String>) {
    let (whole, composed) = made(&[("api", document, &Rules::default())], &[to("/", "api")]);
    (whole, composed.problems.iter().map(ToString::to_string).collect())
}

fn paths(whole: &Value) -> Vec<&str> {
    whole["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn users() -> Value {
    json!({
        "openapi": "3.0.2", "info": {"title": "users", "version": "1"},
        "servers": [{"url": "http://localhost:3000"}],
        "security": [{"key": []}],
        "tags": [{"name": "people", "description": "Those who buy"}, {"name": "unused"}],
        "paths": {
            "/users/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
                "get": {
                    "operationId": "get", "tags": ["people"],
                    "responses": {"200": {"description": "", "content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/User"},
                        "example": {"$ref": "#/components/schemas/No", "nullable": true},
                    }}}},
                },
                "delete": {"security": [], "responses": {"204": {"$ref": "#/components/responses/Gone"}}},
            },
            "/internal": {"get": {"responses": {}}},
        },
        "components": {
            "schemas": {
                "User": {"type": "object", "properties": {
                    "name": {"type": "string", "nullable": true},
                    "friends": {"type": "array", "items": {"$ref": "#/components/schemas/User"}},
                    "$ref": {"type": "integer", "minimum": 0, "exclusiveMinimum": true},
                }},
                "Unused": {"$ref": "#/components/schemas/User"},
            },
            "responses": {"Gone": {"description": "gone"}},
            "securitySchemes": {"key": {"type": "apiKey", "name": "x-key", "in": "header"}},
        },
    })
}

fn orders() -> Value {
    json!({
        "openapi": "3.1.0", "info": {"title": "orders", "version": "7"},
        "paths": {"/": {"post": {"operationId": "get", "requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/User"}}}}, "responses": {}}}},
        "components": {"schemas": {"User": {"type": ["object", "null"]}}},
    })
}

#[test]
fn two_versions_become_one_description() {
    let ignore = vec![Ignored { method: None, path: "/internal".into() }];
    let rules = Rules { ignore, ..Rules::default() };
    let (users, orders) = (users(), orders());
    let sources = [("orders", &orders, &Rules::default()), ("users", &users, &rules)];
    let (whole, composed) = made(&sources, &[stripped("/v1", "users"), stripped("/orders", "orders")]);
    assert_eq!(composed.problems, []);
    assert_eq!(whole["openapi"], "3.1.1");
    assert_eq!(paths(&whole), ["/orders", "/v1/users/{id}"]);
    let get = &whole["paths"]["/v1/users/{id}"]["get"];
    assert_eq!(get["operationId"], "users_get");
    assert_eq!((&get["tags"], &get["x-watt-service"]), (&json!(["people"]), &json!("users")));
    assert_eq!(get["parameters"][0]["name"], "id");
    assert_eq!(get["security"], json!([{"users_key": []}]));
    let content = &get["responses"]["200"]["content"]["application/json"];
    assert_eq!(content["schema"], json!({"$ref": "#/components/schemas/users_User"}));
    assert_eq!(
        content["example"],
        json!({"$ref": "#/components/schemas/No", "nullable": true}),
        "data stays"
    );
    assert_eq!(whole["paths"]["/v1/users/{id}"]["delete"]["security"], json!([]));
    let post = &whole["paths"]["/orders"]["post"];
    assert_eq!((&post["operationId"], &post["tags"]), (&json!("orders_get"), &json!(["orders"])));
    let schemas = whole["components"]["schemas"].as_object().unwrap();
    assert_eq!(
        schemas.keys().collect::<Vec<_>>(),
        ["orders_User", "users_User"],
        "what nobody refers to is left out"
    );
    let user = &schemas["users_User"]["properties"];
    assert_eq!(user["name"], json!({"type": ["string", "null"]}));
    assert_eq!(user["friends"]["items"], json!({"$ref": "#/components/schemas/users_User"}));
    assert_eq!(user["$ref"], json!({"type": "integer", "exclusiveMinimum": 0}), "a property of that name");
    assert_eq!(whole["components"]["responses"], json!({"users_Gone": {"description": "gone"}}));
    assert!(whole["components"]["securitySchemes"]["users_key"].is_object());
    assert_eq!(whole["tags"], json!([{"name": "people", "description": "Those who buy"}]));
    assert_eq!(composed.services["users"], OfService { operations: 2, unreached: 0 });
    assert!(whole.get("servers").is_none());
}

#[test]
fn what_is_all_of_3_0_stays_so() {
    let (whole, problems) = alone(&users());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(whole["openapi"], "3.0.3");
    let name = &whole["components"]["schemas"]["api_User"]["properties"]["name"];
    assert_eq!(*name, json!({"type": "string", "nullable": true}));
}

#[test]
fn only_what_routes_lead_to_is_in_it() {
    let users = users();
    let exact = |path: &str, rewrite: &str| Way {
        rewrite: Some(rewrite.into()),
        is_exact: true,
        ..to(path, "users")
    };
    let ways = [
        Way {
            methods: vec!["GET".into()],
            is_deprecated: true,
            sunset: Some("then".into()),
            ..exact("/people/{who}", "/users/{who}")
        },
        Way { service: None, ..to("/internal", "") },
        to("/internal/x", "users"),
    ];
    let (whole, composed) = made(&[("users", &users, &Rules::default())], &ways);
    assert_eq!(paths(&whole), ["/people/{id}"]);
    let item = whole["paths"]["/people/{id}"].as_object().unwrap();
    assert_eq!(item.keys().collect::<Vec<_>>(), ["get"]);
    assert_eq!((&item["get"]["deprecated"], &item["get"]["x-sunset"]), (&json!(true), &json!("then")));
    assert_eq!(composed.services["users"], OfService { operations: 1, unreached: 2 });
}

#[test]
fn one_operation_may_be_in_two_places() {
    let users = users();
    let ways = [stripped("/a", "users"), stripped("/b", "users"), stripped("/t/{tenant}", "users")];
    let (whole, composed) = made(&[("users", &users, &Rules::default())], &ways);
    let id = |path: &str| whole["paths"][path]["get"]["operationId"].as_str().unwrap().to_owned();
    let ids = ["/a/users/{id}", "/b/users/{id}", "/t/{tenant}/users/{id}"].map(id);
    assert_eq!(ids, ["users_get", "users_get_2", "users_get_3"]);
    let parameters = &whole["paths"]["/t/{tenant}/users/{id}"]["get"]["parameters"];
    let names: Vec<_> =
        parameters.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "tenant"]);
    assert_eq!(composed.problems, []);
}

#[test]
fn what_two_services_share_is_one_path_and_what_they_both_want_is_named() {
    let of = |parameter: &str, method: &str| {
        let path = format!("/users/{{{parameter}}}");
        let operation = json!({
            "operationId": "one", "responses": {},
            "parameters": [{"name": parameter, "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/Id"}}],
        });
        json!({"openapi": "3.1.0", "paths": {path: {method: operation}}, "components": {"schemas": {"Id": {"type": "string"}}}})
    };
    let (first, second) = (of("id", "get"), of("user", "post"));
    let rules = Rules {
        rename: [("Id".to_owned(), "Id".to_owned()), ("one".to_owned(), "one".to_owned())].into(),
        ..Rules::default()
    };
    let ways = [Way { methods: vec!["POST".into()], ..to("/users", "b") }, to("/users", "a")];
    let (whole, composed) = made(&[("a", &first, &rules), ("b", &second, &rules)], &ways);
    assert_eq!(paths(&whole), ["/users/{id}"]);
    let item = &whole["paths"]["/users/{id}"];
    assert_eq!(item["post"]["parameters"][0]["name"], "id", "parameters are called as the path calls them");
    assert_eq!(item["post"]["parameters"][0]["schema"], json!({"$ref": "#/components/schemas/Id_2"}));
    assert_eq!((&item["get"]["operationId"], &item["post"]["operationId"]), (&json!("one"), &json!("one_2")));
    let problems: Vec<String> = composed.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems.iter().all(|problem| problem.starts_with("b: ") && problem.contains("of a ")),
        "{problems:?}"
    );
}

#[test]
fn a_discriminator_brings_its_kinds() {
    let (whole, problems) = alone(&json!({
        "openapi": "3.1.0",
        "paths": {"/": {"get": {"responses": {"200": {"$ref": "#/components/responses/Pet"}}}}},
        "components": {
            "responses": {"Pet": {"description": "", "content": {"*/*": {"schema": {"$ref": "#/components/schemas/Pet"}}}}},
            "schemas": {
                "Pet": {"type": "object", "discriminator": {"propertyName": "kind", "mapping": {"c": "Cat", "d": "#/components/schemas/Dog"}}},
                "Cat": {"allOf": [{"$ref": "#/components/schemas/Pet"}]},
                "Dog": {"$anchor": "dog", "properties": {"chases": {"$ref": "#dog"}}},
                "Bird": {"allOf": [{"$ref": "#/components/schemas/Pet"}, {"$ref": "#/components/schemas/Wing"}]},
                "Wing": {"$id": "http://example.org/wing", "$ref": "#/definitions/x"},
                "Stone": {},
            },
        },
    }));
    assert_eq!(problems, Vec::<String>::new());
    let schemas = whole["components"]["schemas"].as_object().unwrap();
    assert_eq!(schemas.keys().collect::<Vec<_>>(), ["api_Bird", "api_Cat", "api_Dog", "api_Pet", "api_Wing"]);
    let mapping = &schemas["api_Pet"]["discriminator"]["mapping"];
    assert_eq!(*mapping, json!({"c": "#/components/schemas/api_Cat", "d": "#/components/schemas/api_Dog"}));
    assert_eq!(schemas["api_Dog"]["$anchor"], "api_dog");
    assert_eq!(schemas["api_Dog"]["properties"]["chases"]["$ref"], "#api_dog");
    assert_eq!(
        schemas["api_Wing"]["$ref"], "#/definitions/x",
        "references within what has an `$id` are about that"
    );
}

#[test]
fn what_cannot_be_used_is_named() {
    let (whole, problems) = alone(&json!({
        "openapi": "3.1.0",
        "paths": {"/": {"get": {"security": [{"none": []}], "responses": {
            "200": {"$ref": "#/components/responses/None"}, "201": {"$ref": "other.json#/x"}, "202": {"$ref": "#/paths/~1"},
        }}}},
    }));
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(whole["paths"]["/"]["get"].is_object());
    let (whole, problems) = alone(&json!({"swagger": "2.0", "paths": {}}));
    assert_eq!((whole["paths"].as_object().unwrap().len(), problems.len()), (0, 1));
    assert!(problems[0].contains("Swagger 2.0"));
    let many: Map<String, Value> =
        (0..1000).map(|number| (number.to_string(), json!({"$ref": format!("x{number}.json")}))).collect();
    let (_, problems) = alone(&json!({"openapi": "3.1.0", "paths": {"/": {"get": {"responses": many}}}}));
    assert_eq!(problems.len(), 21, "not all of them");
    let long = json!({"openapi": "3.1.0", "paths": {"/": {"get": {"responses": {"200": {"$ref": "é".repeat(5000)}}}}}});
    assert!(alone(&long).1[0].len() < 400);
}

#[test]
fn what_is_too_much_is_left_out_and_the_rest_is_not() {
    let deep = format!(
        r#"{{"openapi":"3.1.0","paths":{}{}}}"#,
        "[".repeat(DEPTH_MAX + 1),
        "]".repeat(DEPTH_MAX + 1)
    );
    let wide = format!(r#"{{"openapi":"3.1.0","paths":[{}0]}}"#, "0,".repeat(VALUES_MAX));
    let bomb = format!(r#"{{"openapi":"3.1.0","paths":{}"#, "[".repeat(1 << 20));
    let fair = users().to_string();
    let rules = Rules::default();
    let source = |service: &'static str, text: &'static str| Source {
        service,
        text: text.as_bytes(),
        rules: Box::leak(Box::new(rules.clone())),
    };
    let leak = |text: String| -> &'static str { text.leak() };
    let sources =
        [source("a", leak(deep)), source("b", leak(wide)), source("c", leak(bomb)), source("d", leak(fair))];
    let composed = compose(&About::default(), &sources, &[to("/", "d")]);
    let failed: BTreeSet<&str> = composed.problems.iter().map(|problem| problem.service.as_str()).collect();
    assert_eq!(failed, ["a", "b", "c"].into(), "{:?}", composed.problems);
    assert_eq!(composed.services["d"].operations, 3);
}

#[test]
fn what_routes_multiply_is_bounded() {
    let text = "x".repeat(1 << 20);
    let document =
        json!({"openapi": "3.1.0", "paths": {"/": {"get": {"description": text, "responses": {}}}}});
    let ways: Vec<Way> = (0..100).map(|number| stripped(&format!("/{number}"), "api")).collect();
    let small = users();
    let mut ways_of_both = ways.clone();
    ways_of_both.push(to("/", "users"));
    let (whole, composed) =
        made(&[("api", &document, &Rules::default()), ("users", &small, &Rules::default())], &ways_of_both);
    assert!(composed.problems[0].text.contains("no room"), "{:?}", composed.problems);
    assert_eq!(paths(&whole), ["/internal", "/users/{id}"], "the next one has room");
    let many: Map<String, Value> =
        (0..20_000).map(|number| (format!("/{number}"), json!({"get": {"responses": {}}}))).collect();
    let ways: Vec<Way> = (0..1000).map(|number| stripped(&format!("/{number}"), "api")).collect();
    let (_, composed) =
        made(&[("api", &json!({"openapi": "3.1.0", "paths": many}), &Rules::default())], &ways);
    assert!(composed.problems[0].text.contains("no room"), "{:?}", composed.problems);
}

#[test]
fn a_text_is_counted_as_it_is_written() {
    let text = "\u{1}".repeat(600 << 10);
    let document =
        json!({"openapi": "3.1.0", "paths": {"/": {"get": {"description": text, "responses": {}}}}});
    let ways: Vec<Way> = (0..8).map(|number| stripped(&format!("/{number}"), "api")).collect();
    let (_, composed) = made(&[("api", &document, &Rules::default())], &ways);
    assert!(composed.problems[0].text.contains("no room"), "{} bytes", composed.document.len());
}

/// Every reference to a component of the whole that leads nowhere.
fn dangling(value: &Value, whole: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            if let Some(Value::String(to)) = entries.get("$ref")
                && let Some((section, name, _)) = crate::walk::component_of(to)
                && whole["components"][&section].get(&name).is_none()
            {
                found.push(to.clone());
            }
            entries.values().for_each(|value| dangling(value, whole, found));
        }
        Value::Array(items) => items.iter().for_each(|item| dangling(item, whole, found)),
        _ => {}
    }
}

/// Words that mean something, so that what is drawn is nearly a description.
fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "$ref",
        "schema",
        "schemas",
        "properties",
        "items",
        "allOf",
        "components",
        "parameters",
        "responses",
        "content",
        "get",
        "post",
        "/a",
        "/a/{b}",
        "security",
        "discriminator",
        "mapping",
        "nullable",
        "type",
        "$id",
        "$anchor",
        "examples",
        "example",
        "callbacks",
        "links",
        "name",
        "in",
        "operationId",
        "securitySchemes",
        "A",
        "B",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let text = proptest::sample::select(vec![
        "#/components/schemas/A",
        "#/components/schemas/B",
        "#/components/responses/A",
        "#",
        "#x",
        "x.json",
        "A",
        "object",
        "",
    ]);
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        any::<i32>().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((word(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever services say: nothing ends us, what comes out is a description, the same each time, and what there was of what is referred to is
    /// there.
    #[test]
    fn whatever_comes_in_a_description_comes_out(paths in value(), components in value(), schema in value(), version in 0..3u8) {
        let mut document = json!({"openapi": format!("3.{version}.0"), "paths": {"/x": {"get": {"responses": {"200": {"content": {"*/*": {"schema": schema}}}}}}}, "components": components});
        if let (Value::Object(all), Value::Object(more)) = (&mut document["paths"], paths) {
            all.extend(more);
        }
        let ways = [to("/", "a"), stripped("/{t}/b", "b")];
        let rules = Rules::default();
        let sources = [("a", &document, &rules), ("b", &document, &rules)];
        let (whole, composed) = made(&sources, &ways);
        prop_assert_eq!(&made(&sources, &ways).1, &composed);
        prop_assert!(whole["paths"].is_object());
        let mut lost = Vec::new();
        dangling(&whole, &whole, &mut lost);
        let were: BTreeSet<String> = lost.into_iter().collect();
        for lost in were {
            let (section, name, _) = crate::walk::component_of(&lost).unwrap();
            let name = name.trim_start_matches("a_").trim_start_matches("b_");
            prop_assert!(document["components"][&section].get(name).is_none(), "{lost} of {document}");
        }
    }
}
