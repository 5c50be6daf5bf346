//! Parts of an OpenAPI document, made of the lists of fields that the reference pages are made of.

use serde_json::{Value, json};

use crate::output::field_lists::Field;

/// The document of a site: `stream` says which records the stream has.
pub fn document(title: &str, description: &str, stream: &str, mut paths: Value, mut schemas: Value) -> Value {
    paths["/api/v1/stream"] = json!({"get": {
        "summary": stream,
        "responses": {
            "200": {"description": "Records, until the client ends it.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "503": {"description": "There are too many readers."},
        },
    }});
    paths["/api/v1/openapi.json"] = json!({"get": {
        "summary": "This document.",
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
    }});
    schemas["Error"] = object([("error", json!({"type": "string"}))]);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": description,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// A path. `missing` says why a request may be answered with 404.
pub fn get(summary: &str, parameters: &[Value], reply: &Value, missing: Option<&str>) -> Value {
    let error =
        |why: &str| json!({"description": why, "content": {"application/json": {"schema": reference("Error")}}});
    let mut responses = json!({"200": reply, "400": error("A parameter is wrong.")});
    if let Some(why) = missing {
        responses["404"] = error(why);
    }
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses}})
}

pub fn parameter(name: &str, schema: &Value, description: &str, is_required: bool) -> Value {
    json!({"name": name, "in": "query", "required": is_required, "schema": schema, "description": description})
}

pub fn reply(what: &str, schema: &str) -> Value {
    json!({"description": what, "content": {"application/json": {"schema": reference(schema)}}})
}

pub fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

pub fn list(schema: &str) -> Value {
    json!({"type": "array", "items": reference(schema)})
}

pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    let mut schema = json!({"type": "object", "properties": {}, "required": []});
    for (name, property) in properties {
        require(&mut schema, name, property);
    }
    schema
}

pub fn require(schema: &mut Value, name: &str, property: Value) {
    schema["properties"][name] = property;
    if schema["required"].is_null() {
        schema["required"] = json!([]);
    }
    if let Some(required) = schema["required"].as_array_mut()
        && !required.contains(&name.into())
    {
        required.push(name.into());
    }
}

/// A record: its type, who measured, and its fields, of which `absent` may be missing.
pub fn record(kind: &str, list: &mut dyn Iterator<Item = &Field>, absent: &[&str]) -> Value {
    let mut schema = fields(list);
    require(&mut schema, "type", json!({"const": kind}));
    require(
        &mut schema,
        "agent",
        json!({"type": "string", "description": "Who measured."}),
    );
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| !absent.iter().any(|absent| name == absent));
    }
    schema
}

/// `attach.egress` is a field of the object `attach`, and `devices[].role` one of each object in the list `devices`.
pub fn fields(list: &mut dyn Iterator<Item = &Field>) -> Value {
    let mut schema = object([]);
    for (name, kind, meaning) in list {
        let mut property = of_kind(kind);
        if !meaning.is_empty() {
            property["description"] = (*meaning).into();
        }
        place(&mut schema, name, property);
    }
    schema
}

fn place(schema: &mut Value, name: &str, property: Value) {
    let Some((outer, inner)) = name.split_once('.') else {
        return require(schema, name, property);
    };
    match outer.strip_suffix("[]") {
        Some(list) => {
            let items = &mut schema["properties"][list]["items"];
            if items["properties"].is_null() {
                *items = object([]);
            }
            place(items, inner, property);
        }
        None => {
            let mut of_outer = schema["properties"].get(outer).cloned().unwrap_or_else(|| object([]));
            place(&mut of_outer, inner, property);
            require(schema, outer, of_outer);
        }
    }
}

fn of_kind(kind: &str) -> Value {
    let (base, is_nullable) = match kind.strip_suffix('?') {
        Some(base) => (base, true),
        None => (kind, false),
    };
    let integers = json!({"type": "array", "items": {"type": "integer"}});
    let schema = match base {
        "ns" | "s" | "ppb" | "1/s" | "integer" => json!({"type": "integer"}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "list of strings" => json!({"type": "array", "items": {"type": "string"}}),
        "list of times" => json!({"type": "array", "items": {"type": "string", "format": "date-time"}}),
        "list of integers" => integers,
        "list of integers or null" => json!({"type": "array", "items": {"type": ["integer", "null"]}}),
        "list of objects" => json!({"type": "array", "items": {"type": "object"}}),
        "buckets" => {
            let pair = json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "minItems": 2, "maxItems": 2});
            json!({"type": "array", "items": pair})
        }
        "distribution" => reference("Distribution"),
        "clock" => reference("Clock"),
        other => json!({"type": other}),
    };
    match (is_nullable, schema.get("type").cloned()) {
        (false, _) => schema,
        (true, Some(of)) => {
            let mut schema = schema;
            schema["type"] = json!([of, "null"]);
            schema
        }
        (true, None) => json!({"oneOf": [schema, {"type": "null"}]}),
    }
}

/// Whether a value has exactly the fields that its schema has, all the way down.
#[cfg(test)]
pub(crate) fn is_as_described(value: &Value, schema: &Value, all: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return is_as_described(value, &all[name.rsplit('/').next().unwrap()], all);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().any(|choice| is_as_described(value, choice, all));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    match value {
        Value::Null => types.contains(&"null"),
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Number(number) => types.contains(&"integer") && number.is_i64(),
        Value::String(_) => types.contains(&"string") || schema["const"] == *value,
        Value::Array(items) => {
            let of = |index: usize| schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
            let are_as_described = |(index, item)| is_as_described(item, of(index), all);
            types.contains(&"array") && items.iter().enumerate().all(are_as_described)
        }
        Value::Object(fields) => match schema["properties"].as_object() {
            None => types.contains(&"object"),
            Some(known) => {
                fields.len() == known.len()
                    && known.keys().all(|name| fields.contains_key(name))
                    && fields
                        .iter()
                        .all(|(name, field)| is_as_described(field, &known[name], all))
            }
        },
    }
}
